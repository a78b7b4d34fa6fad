"""A link to a term of the glossary shows the term's meaning when the pointer or a screen reader comes to it."""

from typing import Any

from docutils import nodes
from sphinx import addnodes

GLOSSARY = "glossary"


def setup(app: Any) -> dict[str, bool]:
    app.connect("doctree-resolved", _with_meanings)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _with_meanings(app: Any, doctree: nodes.document, docname: str) -> None:
    if docname == GLOSSARY or GLOSSARY not in app.env.all_docs:
        return
    links = [link for link in doctree.findall(nodes.reference) if "#term-" in link.get("refuri", "")]
    meanings = _meanings(app) if links else {}
    for link in links:
        link["reftitle"] = meanings[link["refuri"].partition("#")[2]]
        link["classes"].append("term")


def _meanings(app: Any) -> dict[str, str]:
    """The text of each definition by the id of its term."""
    found = {}
    for glossary in app.env.get_doctree(GLOSSARY).findall(addnodes.glossary):
        for item in glossary.findall(nodes.definition_list_item):
            text = " ".join(part.astext() for part in item.findall(nodes.definition)).replace("\n", " ")
            for term in item.findall(nodes.term):
                found |= dict.fromkeys(term["ids"], text)
    return found

"""The book: its parts exist, its notebooks are sources, and its pages ask no other host for anything."""

import ast
import importlib.util
import re
from html.parser import HTMLParser
from pathlib import Path

import jupytext
import pytest
import yaml
from docutils import nodes

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
TEXTS = sorted(BOOK.glob("*.md"))
PROTOCOLS = sorted((ROOT / "results" / "protocols").glob("*.md"))
SOURCES = [*TEXTS, *PROTOCOLS, *NOTEBOOKS, BOOK / "_toc.yml", BOOK / "_config.yml"]


def _is_current(html: Path) -> bool:
    """A finished build that is not older than what it was built from."""
    front = html / "index.html"
    return front.is_file() and front.stat().st_mtime >= max(path.stat().st_mtime for path in SOURCES)


BUILDS = [html for html in (ROOT / "build").glob("**/_build/html") if _is_current(html)]
needs_build = pytest.mark.skipif(not BUILDS, reason="needs a book built from these sources: make book")


def _chapters() -> list[str]:
    toc = yaml.safe_load((BOOK / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]


def _source(chapter: str) -> Path:
    if chapter.startswith("notebooks/"):
        return ROOT / f"{chapter}.py"
    return (ROOT / "results" if chapter.startswith("protocols/") else BOOK) / f"{chapter}.md"


@pytest.mark.parametrize("chapter", _chapters())
def test_chapter_exists(chapter: str) -> None:
    assert _source(chapter).is_file()


def test_every_text_and_notebook_is_a_chapter_once() -> None:
    chapters = _chapters()
    assert len(chapters) == len(set(chapters))
    assert {_source(chapter) for chapter in chapters} == {*TEXTS, *PROTOCOLS, *NOTEBOOKS}


def test_config_builds_offline_and_executes_nothing() -> None:
    config = yaml.safe_load((BOOK / "_config.yml").read_text(encoding="utf-8"))
    assert config["execute"]["execute_notebooks"] == "off"
    sphinx = config["sphinx"]["config"]
    assert sphinx["html_math_renderer"] == "mathml"  # made by the build: no script reads equations
    assert sphinx["myst_update_mathjax"] is False


def test_a_bar_over_a_letter_needs_no_font() -> None:
    specification = importlib.util.spec_from_file_location("mathml", BOOK / "_ext" / "mathml.py")
    assert specification is not None
    assert specification.loader is not None
    mathml = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(mathml)
    converted = mathml._converted(nodes.math("", r"\bar B = \delta B"), displaystyle=False)
    assert '<mrow class="bar"><mi>B</mi></mrow>' in converted
    assert converted.count("<mi>B</mi>") == 2


# -- notebooks
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_has_typed_commented_parameters_and_checks_them(path: Path) -> None:
    notebook = jupytext.read(path)
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(cells) == 1, "one cell tagged parameters"
    lines = cells[0].source.splitlines()
    for statement in ast.parse(cells[0].source).body:
        assert isinstance(statement, ast.AnnAssign), f"no type: {ast.unparse(statement)}"
        assert statement.end_lineno is not None
        assert "#" in lines[statement.end_lineno - 1], f"no comment: {ast.unparse(statement)}"
    assert "check_parameters(" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_opens_with_a_title_and_defines_no_model(path: Path) -> None:
    cells = jupytext.read(path).cells
    assert cells[0].cell_type == "markdown"
    assert re.match(r"# \S", cells[0].source)
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    assert not [node.name for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ClassDef)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_of_this_kernel_and_metadata_is_short(path: Path) -> None:
    metadata = jupytext.read(path).metadata
    assert metadata["kernelspec"]["name"] == "python3"
    assert set(metadata) <= {"kernelspec", "jupytext"}


# -- references
CITATION = re.compile(r"\{cite(?::\w+)?\}`([^`]+)`")


def _bibliography() -> list[str]:
    return re.findall(r"^@\w+\{([^,\s]+),", (BOOK / "references.bib").read_text(encoding="utf-8"), flags=re.MULTILINE)


def _cited() -> dict[str, set[str]]:
    """Keys cited, with the files that cite them."""
    found: dict[str, set[str]] = {}
    for path in [*TEXTS, *NOTEBOOKS]:
        # in notebooks a citation may be broken over two comment lines
        text = re.sub(r"\n#? *", " ", path.read_text(encoding="utf-8"))
        for keys in CITATION.findall(text):
            for key in keys.split(","):
                found.setdefault(key.strip(), set()).add(path.name)
    return found


def test_bibliography_has_every_key_once() -> None:
    keys = _bibliography()
    assert len(keys) == len(set(keys))
    missing = {key: files for key, files in _cited().items() if key not in keys}
    assert not missing


def test_every_entry_is_cited() -> None:
    assert set(_bibliography()) <= set(_cited())


# -- built pages
LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "object": "data"}
PASSIVE_LINKS = {"canonical", "search", "next", "prev", "index", "author", "help", "license"}


class _Requests(HTMLParser):
    """What a page makes a browser load at once: scripts, styles, images, frames (not links that a reader follows)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        target = given.get(LOADING.get(tag, ""))
        if tag == "link" and not set((given.get("rel") or "").split()) & PASSIVE_LINKS:
            target = given.get("href")
        if target:
            self.found.append(target)


def _other_hosts(html: str) -> list[str]:
    parser = _Requests()
    parser.feed(html)
    imported = re.findall(r"(?:@import\s+|url\()[\"']?((?:https?:)?//[^\"')\s]+)", html)
    return [target for target in [*parser.found, *imported] if re.match(r"(https?:)?//", target)]


def test_reader_of_pages_sees_requests() -> None:
    page = (
        '<script src="https://a.example/x.js"></script><link rel="stylesheet" href="//b.example/x.css">'
        '<img src="_images/x.png"><a href="https://c.example">c</a><style>@import "https://d.example/x.css";</style>'
        '<link rel="canonical" href="https://e.example/">'
    )
    assert _other_hosts(page) == ["https://a.example/x.js", "//b.example/x.css", "https://d.example/x.css"]


@needs_build
@pytest.mark.parametrize("html", BUILDS, ids=lambda path: str(path.relative_to(ROOT)))
def test_built_pages_ask_no_other_host(html: Path) -> None:
    pages = sorted(html.rglob("*.html"))
    assert {f"{chapter}.html" for chapter in _chapters()} <= {str(p.relative_to(html)) for p in pages}
    for page in pages:
        assert not _other_hosts(page.read_text(encoding="utf-8")), page


@needs_build
@pytest.mark.parametrize("html", BUILDS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_built_pages_lead_somewhere(html: Path) -> None:
    for page in sorted(html.rglob("*.html")):
        for target in re.findall(r"<a [^>]*href=\"([^\"#?]+)", page.read_text(encoding="utf-8")):
            if not re.match(r"\w+:|//", target):
                assert (page.parent / target).exists(), f"{page.relative_to(html)} links to {target}"

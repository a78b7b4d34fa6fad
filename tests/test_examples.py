"""Every public name is documented, and every example in a docstring gives what it says."""

import ast
import doctest
import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

import mambaad

ROOT = Path(mambaad.__file__).parents[1]
PAGE = ROOT / "book" / "api.md"
MODULES = [
    ".".join(path.with_suffix("").relative_to(ROOT).parts).removesuffix(".__init__")
    for path in sorted((ROOT / "mambaad").rglob("*.py"))
    if ">>>" in path.read_text(encoding="utf-8")
]
WITHOUT_EXAMPLE = {"Prediction", "efficiency", "metrics"}
"""Public names of the package that are no call: a result and two modules."""


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_say(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), extraglobs={"np": importlib.import_module("numpy")})
    assert result.attempted
    assert not result.failed


@pytest.mark.parametrize("name", sorted(set(mambaad.__all__) - WITHOUT_EXAMPLE))
def test_public_names_have_an_example(name: str) -> None:
    documented = getattr(mambaad, name)
    text = inspect.getdoc(documented) or ""
    if name == "load_checkpoint":
        text += inspect.getdoc(mambaad.save_checkpoint) or ""
    assert f"{name}(" in "".join(re.findall(r"^\s*(?:>>>|\.\.\.) .*$", text, flags=re.MULTILINE))


def _documented_modules() -> list[ModuleType]:
    names = re.findall(r"^\.\. automodule:: (\S+)", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [importlib.import_module(name) for name in names]


def test_the_reference_shows_every_public_name() -> None:
    page = PAGE.read_text(encoding="utf-8")
    without_all = ("Efficiency", "count", "count_method")
    shown = {public for module in _documented_modules() for public in getattr(module, "__all__", without_all)}
    shown |= set(re.findall(r"^\.\. auto(?:class|function):: \S+\.(\w+)$", page, flags=re.MULTILINE))
    assert set(mambaad.__all__) - {"efficiency", "metrics"} <= shown


@pytest.mark.parametrize("module", _documented_modules(), ids=lambda module: module.__name__)
def test_public_names_say_what_they_are(module: ModuleType) -> None:
    source = ast.parse(inspect.getsource(module))
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{module.__name__}.{name} has no docstring"
    assert ast.get_docstring(source)

"""Rules that no file of the project may break: nothing in a file is executed, and no shell is given a string."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path for part in ("mambaad", "scripts", "notebooks", "book") for path in (ROOT / part).rglob("*.py"))
EXECUTING = {"os.system", "os.popen", "pickle.load", "pickle.loads", "eval", "exec", "marshal.loads", "yaml.load"}


def called(node: ast.Call) -> str:
    """The function's name as it stands in the code: torch.load."""
    return ast.unparse(node.func)


def faults(code: str) -> Iterator[tuple[int, str]]:
    """Line and call of what could run what a file or a user says."""
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call):
            continue
        name, given = called(node), {k.arg: ast.unparse(k.value) for k in node.keywords}
        guarded = given.get("weights_only") == "True"
        if name in EXECUTING or given.get("shell", "False") != "False":
            yield node.lineno, name
        if name.endswith("torch.load") and not guarded:
            yield node.lineno, name
        if name.endswith("np.load") and given.get("allow_pickle", "False") != "False":
            yield node.lineno, name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_in_a_file_is_executed(path: Path) -> None:
    found = [f"line {line}: {name}" for line, name in faults(path.read_text(encoding="utf-8"))]
    assert not found


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run('ls ' + name, shell=True)",
        "os.system('ls')",
        "pickle.loads(content)",
        "eval(text)",
    ],
)
def test_each_rule_fires(code: str) -> None:
    assert list(faults(code))


@pytest.mark.parametrize(
    "code", ["torch.load(path, weights_only=True)", "np.load(path, mmap_mode='r')", "subprocess.run(['ls', name])"]
)
def test_what_is_safe_is_allowed(code: str) -> None:
    assert not list(faults(code))

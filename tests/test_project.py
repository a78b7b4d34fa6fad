"""The project as a whole: imports run one way, and its files agree with each other."""

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import conftest
import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import mambaad
from mambaad.cli import parser
from mambaad.study.tables_spec import TABLES

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mambaad"
REFERENCE = ROOT / "tests" / "reference"

PARTS = re.findall(r"^    (\w+)  +\S", mambaad.__doc__ or "", flags=re.MULTILINE)
"""The parts of the package in their one order, as its docstring lists them."""


def module_name(path: Path) -> str:
    names = ("mambaad", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


def imported_modules(path: Path) -> Iterator[str]:
    """Modules of the package that a file imports, at any depth of its code: inside functions and for types, too."""
    # `python -m` and mambaad/__init__.py have the package itself as their folder.
    package = ("mambaad", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            first, *rest = name.split(".")
            if first == "mambaad":
                # a name that is no module belongs to the one before it, as the public names do to the whole package
                file = PACKAGE.joinpath(*rest)
                yield name if file.is_dir() or file.with_suffix(".py").is_file() else name.rpartition(".")[0]


def imported_parts(path: Path) -> set[str]:
    """Parts of the package (`config`, `data`, ...) that a file imports."""
    return {name.split(".")[1] if "." in name else "__init__" for name in imported_modules(path)}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


MODULES = sorted(PACKAGE.rglob("*.py"))
IMPORTS = {path: imported_parts(path) - {part_of(path)} for path in MODULES}


def test_every_part_of_the_package_is_listed_once() -> None:
    found = {part_of(path) for path in MODULES} - {"__init__", "__main__"}
    assert sorted(PARTS) == sorted(found)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_imports_only_what_is_above_it(part: str) -> None:
    above = set(PARTS[: PARTS.index(part)])
    for path in MODULES:
        if part_of(path) == part:
            assert IMPORTS[path] <= above, f"{path.relative_to(ROOT)} imports {IMPORTS[path] - above}"


def test_import_reader_sees_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    (tmp_path / "model").mkdir()
    for name in ("config.py", "ops.py", "data.py", "train.py", "cli.py"):
        (tmp_path / name).touch()
    path = tmp_path / "model" / "lss.py"
    path.write_text(
        "import mambaad.ops\nfrom mambaad import config\nfrom ..data import sample\nfrom . import hss\n"
        "def later():\n    from mambaad.train import train_run\n    from .. import cli\nimport numpy\n"
    )
    assert imported_parts(path) == {"ops", "config", "data", "model", "train", "cli"}
    assert set(imported_modules(path)) == {
        f"mambaad.{name}" for name in ("ops", "config", "data", "model", "train", "cli")
    }


def test_no_circle_of_imports() -> None:
    """A module can be read before those that use it; imports inside functions and those for types alone count, too."""
    imports = {module_name(path): set(imported_modules(path)) - {module_name(path)} for path in MODULES}
    TopologicalSorter(imports).prepare()  # raises CycleError with the modules of a circle


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_library_files_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


def test_importing_the_library_needs_no_optional_package() -> None:
    """Neither the cuda extra nor the study's packages are imported with the library's core."""
    optional = {"mamba_ssm", "causal_conv1d", "matplotlib", "seaborn", "pandas", "snakemake"}
    code = f"import sys, mambaad; print(sorted({optional!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_every_table_has_one_notebook_and_one_published_file() -> None:
    notebooks = {path.stem for path in (ROOT / "notebooks").glob("table_*.py")}
    assert notebooks == set(TABLES)
    chapters = {"01_selective_scan", "02_hybrid_scan", "03_mambaad", "audit_published_numbers"}
    assert chapters <= {path.stem for path in (ROOT / "notebooks").glob("*.py")}


def test_a_table_s_name_stands_in_its_description_only() -> None:
    """Code that asks which table it has would be one more place to edit for a new one."""
    quoted = re.compile(rf"""["']({"|".join(TABLES)})["']""")
    description = PACKAGE / "study" / "tables_spec.py"
    assert set(quoted.findall(description.read_text(encoding="utf-8"))) == set(TABLES)
    for path in (*MODULES, *(ROOT / "notebooks").glob("*.py"), ROOT / "Snakefile", ROOT / "evidence.smk"):
        if path != description:
            assert not quoted.search(path.read_text(encoding="utf-8")), f"{path.relative_to(ROOT)} names a table"
    for name, table in TABLES.items():
        assert name.startswith(f"table_{table.number}_")


def test_committed_tables_belong_to_notebooks() -> None:
    tables = {path.stem for path in (ROOT / "results" / "tables").glob("*.csv")}
    assert tables <= {path.stem for path in (ROOT / "notebooks").glob("*.py")}


# -- versions and requirements
def _pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _lock() -> dict[str, list[Requirement]]:
    """The lock's lines by package; a package may have several, told apart by their markers."""
    found: dict[str, list[Requirement]] = {}
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        if line and line[0] not in " #":
            requirement = Requirement(line)
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def test_version_is_the_same_everywhere() -> None:
    version = _pyproject()["project"]["version"]
    assert mambaad.__version__ == version
    assert str(yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"]) == version


def test_lock_pins_exactly_and_satisfies_the_bounds() -> None:
    lock, project = _lock(), _pyproject()["project"]
    for name, lines in lock.items():
        for line in lines:
            assert [spec.operator for spec in line.specifier] == ["=="], f"{name} is not pinned: {line}"
    wanted = project["dependencies"] + [r for e in ("study", "dev") for r in project["optional-dependencies"][e]]
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        assert name in lock, f"{name} is not in requirements.lock: run `make lock`"
        for line in lock[name]:
            pinned = next(iter(line.specifier)).version
            assert requirement.specifier.contains(Version(pinned), prereleases=True), f"{name} {pinned}: {requirement}"


def test_lock_has_nothing_of_the_cuda_extra() -> None:
    extra = {canonicalize_name(Requirement(r).name) for r in _pyproject()["project"]["optional-dependencies"]["cuda"]}
    assert not extra & set(_lock())


def test_conda_environment_adds_nothing_to_the_lock() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *conda, with_pip = environment["dependencies"]
    assert with_pip == {"pip": ["-r requirements.lock", "-e ."]}
    pins = dict((*entry.split("=", 1), "")[:2] for entry in conda)
    assert set(pins) == {"python", "pip"}
    assert Requirement(f"python{_pyproject()['project']['requires-python']}").specifier.contains(pins["python"])


# -- the commands that the texts promise
def _make_targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z]+):(?!=)", makefile, flags=re.MULTILINE))


TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "book").glob("*.md"))]


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.name)
def test_make_commands_in_texts_exist(text: Path) -> None:
    commands = re.findall(r"\bmake ([a-z]+)", _code(text))
    assert set(commands) <= _make_targets()


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.name)
def test_mambaad_commands_in_texts_parse(text: Path) -> None:
    for line in _code(text).replace("\\\n", " ").splitlines():
        words = re.sub(r"\s[#>].*", "", line).split()
        if words and words[0].rpartition("/")[2] == "mambaad" and words[1:]:
            assert _exit_code(words[1:]) == 0, f"{text.name}: {line}"


def _exit_code(words: list[str]) -> object:
    """0 for a command that parses, and for --help; 2 after an option that does not exist."""
    try:
        parser().parse_args(words)
    except SystemExit as stop:
        return stop.code
    return 0


def test_command_reader_notices_a_wrong_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit_code(["train", "--no-such-option"]) == 2
    assert "usage" in capsys.readouterr().err


def test_readme_has_the_two_commands() -> None:
    code = _code(ROOT / "README.md")
    assert "make reproduce" in code
    assert "make test" in code


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.name)
def test_links_to_files_in_texts_exist(text: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", text.read_text(encoding="utf-8")):
        assert (text.parent / target).exists(), f"{text.name} links to {target}"


def test_files_that_the_recipes_name_exist() -> None:
    named = re.findall(
        r"`((?:mambaad|tests|book|results)/[\w/.]*)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    )
    assert len(named) >= 9
    for name in named:
        assert (ROOT / name).exists(), f"CONTRIBUTING.md names {name}"


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name)
def test_workflows_are_yaml_and_call_targets_there_are(path: Path) -> None:
    assert yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(re.findall(r"\bmake ([a-z]+)", path.read_text(encoding="utf-8"))) <= _make_targets()


def _code(text: Path) -> str:
    """What stands in code blocks and inline code."""
    content = text.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:sh|bash|text)?\n(.*?)^```", content, flags=re.MULTILINE | re.DOTALL)
    inline = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", content)
    return "\n".join(blocks + inline)


# -- what must not be committed
def _tracked() -> list[Path]:
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git and a clone: lists the files under version control")
    return [ROOT / name for name in done.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


MACHINE_PATH = re.compile(r"(?<![\w.~}])/(?:home|Users|root|work|mnt|tmp)/\w")


def test_no_tracked_file_names_a_path_of_somebodys_machine() -> None:
    for path in _tracked():
        if path.suffix in {".png", ".safetensors", ".npz"}:
            continue
        found = MACHINE_PATH.search(path.read_text(encoding="utf-8"))
        assert not found, f"{path.relative_to(ROOT)}: {found and found.group()}..."


def test_machine_paths_are_recognised() -> None:
    for text in ("root=/home/" + "ann/x", '"/Users/' + 'bob"', "in /tmp" + "/shots"):
        assert MACHINE_PATH.search(text)
    for text in ("results/runs", "../shared/data", "https://example.org/home/x", "~/work/x"):
        assert not MACHINE_PATH.search(text)


def test_tracked_files_are_small_and_of_known_kinds() -> None:
    for path in _tracked():
        assert path.stat().st_size <= 2.6e6, f"{path.relative_to(ROOT)} is too large to commit"
        assert path.suffix not in {".ipynb", ".html", ".pth", ".pt"}, f"{path.relative_to(ROOT)} is an output"
        assert path.suffix != ".npz" or REFERENCE in path.parents, f"{path.relative_to(ROOT)} is no reference output"


def test_reference_outputs_are_arrays_without_weights_or_objects() -> None:
    for path in REFERENCE.rglob("*.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays:
                assert arrays[name].dtype.kind in "fiu", f"{path.relative_to(ROOT)}: {name}"


def test_parity_may_not_be_skipped(pytester: pytest.Pytester) -> None:
    """The hook of tests/conftest.py turns skips of tests marked `never_skipped` into failures, and no others."""
    assert "pytestmark = pytest.mark.never_skipped" in (ROOT / "tests/model/test_parity.py").read_text(encoding="utf-8")
    hook = inspect.getsource(conftest.pytest_runtest_makereport)
    pytester.makeconftest(f"from collections.abc import Generator\nimport pytest\n{hook}")
    pytester.makepyfile(
        "import pytest\n"
        "def test_other(): pytest.skip('needs a GPU')\n"
        "@pytest.fixture\ndef files(): pytest.skip('needs files')\n"
        "@pytest.mark.never_skipped\ndef test_inside(): pytest.skip('not today')\n"
        "@pytest.mark.never_skipped\ndef test_fixture(files): pass\n"
        "@pytest.mark.never_skipped\ndef test_fine(): pass\n"
    )
    pytester.runpytest("-W", "ignore").assert_outcomes(skipped=1, failed=1, errors=1, passed=1)

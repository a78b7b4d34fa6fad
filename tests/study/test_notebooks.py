"""The table and audit notebooks: parameters that are wrong are refused, and every notebook runs on made-up records."""

import ast
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import papermill
import pytest
from fake_records import write_all_quick, write_fake
from papermill.exceptions import PapermillExecutionError

from mambaad.config import RunConfig
from mambaad.study import notebook, plan, published_numbers
from mambaad.study.notebook import ParameterError, check_parameters, published_folder, results_folder
from mambaad.study.profiles import NOTES
from mambaad.study.tables_spec import TABLES

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("table_*.py"))
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with a made-up record for every quick run."""
    results = tmp_path_factory.mktemp("quick")
    write_all_quick(results)
    return results


def test_right_parameters_come_back() -> None:
    given = check_parameters({"profile": "quick", "steps": 3, "other": 1}, profile=("quick", "paper"), steps=int)
    assert (given.profile, given.steps) == ("quick", 3)
    assert check_parameters({"lr": 1}, lr=float).lr == 1
    assert not hasattr(given, "other")


@pytest.mark.parametrize(
    ("namespace", "message"),
    [
        ({"profile": "fast", "steps": 3}, "profile must be one of 'quick', 'paper'; got 'fast'"),
        ({"profile": "quick", "steps": "3"}, "steps must be of type int; got '3', a str"),
        ({"profile": "quick", "steps": True}, "steps must be of type int; got True"),
        ({"profile": "quick"}, "the parameter steps is missing"),
        ({"profile": "quick", "steps": 3, "In": ["", "# Parameters\nstep = 4\n"]}, "unknown parameter step; this"),
    ],
)
def test_wrong_parameters_are_refused(namespace: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        check_parameters(namespace, profile=("quick", "paper"), steps=int)


def test_rules_must_be_values_or_types() -> None:
    with pytest.raises(TypeError, match="tuple of values or a type"):
        check_parameters({"a": 1}, a="int")


def test_papermill_refuses_an_unknown_name(tmp_path: Path) -> None:
    source = "n: int = 3  # a count\n"
    check = "from mambaad.study.notebook import check_parameters\ncheck_parameters(globals(), n=int)"
    cells = [
        nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(check),
    ]
    book = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL})
    nbformat.write(book, tmp_path / "in.ipynb")
    with pytest.raises(PapermillExecutionError, match="unknown parameter m; this notebook has n"):
        run_notebook(tmp_path / "in.ipynb", tmp_path / "out.ipynb", m=4)


@pytest.mark.filterwarnings("ignore")  # of the notebook machinery, not of ours
def run_notebook(source: Path, target: Path, **parameters: Any) -> None:
    papermill.execute_notebook(source, target, parameters=parameters, cwd=source.parent, progress_bar=False)


def run_cells(path: Path, **parameters: Any) -> dict[str, Any]:
    """A notebook's code cells one after the other, in this process: a kernel of its own takes seconds to start."""
    namespace: dict[str, Any] = {}
    for cell in jupytext.read(path).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, str(path), "exec"), namespace)
        if "parameters" in cell.metadata.get("tags", []):
            namespace.update(parameters)
    return namespace


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_table_notebooks_run_from_anywhere(
    path: Path, quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (quick / "tables" / f"{path.stem}.csv").unlink(missing_ok=True)
    run_cells(path, results=str(quick))
    assert (quick / "tables" / f"{path.stem}.csv").is_file()
    assert "not run yet" not in capsys.readouterr().out


def test_a_report_without_records_says_how_to_make_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = next(path for path in NOTEBOOKS if path.stem == "table_2_incremental")
    run_cells(path, results=str(tmp_path))
    printed = capsys.readouterr().out
    assert "3 of 3 runs have no record" in printed
    assert "mambaad reproduce --profile quick --tables table_2_incremental" in printed


def test_mode_run_makes_only_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = next(path for path in NOTEBOOKS if path.stem == "table_3_lss_branches")
    runs = plan.runs("quick", [TABLES[path.stem]])
    done, *missing = runs.values()
    write_fake(tmp_path, "quick", done)
    made = []

    def execute(run: RunConfig, results: Path, *, profile: str, **_: object) -> None:
        made.append(run.hash)
        write_fake(results, profile, run)

    monkeypatch.setattr(notebook, "execute", execute)
    namespace = run_cells(path, results=str(tmp_path), mode="run")
    assert made == [run.hash for run in missing]
    assert namespace["frame"]["note"].str.contains(NOTES["quick"], regex=False).any()


def test_table_1_asks_for_published_weights(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Hugging Face repository Lewandofski/MambaAD"):
        run_cells(NOTEBOOKS[0], results=str(tmp_path), mode="published_weights")


def test_the_audit_notebook_runs() -> None:
    namespace = run_cells(NOTEBOOKS[0].with_name("audit_published_numbers.py"))
    assert (namespace["summary"]["found"] == "found").all()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_check_exactly_the_parameters_they_have(path: Path) -> None:
    cells = jupytext.read(path).cells
    (parameters,) = [c.source for c in cells if "parameters" in c.metadata.get("tags", [])]
    lines = parameters.splitlines()
    assert all("  # " in line for line in lines)
    names = {ast.unparse(node.target) for node in ast.parse(parameters).body if isinstance(node, ast.AnnAssign)}
    assert len(names) == len(lines)
    calls = [
        node
        for cell in cells
        if cell.cell_type == "code"
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "check_parameters"
    ]
    assert [{keyword.arg for keyword in call.keywords} for call in calls] == [names]
    assert path.stem in TABLES


def test_every_table_has_its_notebook() -> None:
    assert [path.stem for path in NOTEBOOKS] == list(TABLES)


def test_folders_are_relative_to_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = published_numbers.repository_root()
    monkeypatch.chdir(tmp_path)
    assert results_folder("results") == root / "results"
    assert results_folder(str(tmp_path)) == tmp_path
    assert published_folder("results/paper") == root / "results" / "paper"
    with pytest.raises(ParameterError, match="does not hold the published numbers"):
        published_folder(str(tmp_path))

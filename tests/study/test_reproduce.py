"""`mambaad reproduce`: which runs it names, before any is made."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import layouts
import pytest
import yaml
from fake_records import write_fake

from mambaad import cli
from mambaad.config import RunConfig
from mambaad.study import plan
from mambaad.study.tables_spec import TABLE_5, TABLE_6

ROOT = Path(__file__).resolve().parents[2]


def lines(capsys: pytest.CaptureFixture[str], *words: object) -> list[str]:
    assert cli.main(["reproduce", *map(str, words)]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("dataset", ["visa", "mvtec_ad"])
def test_a_subset_is_of_the_data_set_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], dataset: str) -> None:
    root = layouts.WRITERS[dataset](tmp_path / "data")
    subset = ["--profile", "subset", "--data-dir", root, "--tables", TABLE_6.name]
    subset += ["--dataset", dataset] if dataset != "mvtec_ad" else []  # the default
    (run, count) = lines(capsys, *subset, "--dry-run", "--results", tmp_path / "results")
    assert f"table 6: {dataset} at 256 px" in run
    assert count == "1 runs"
    assert lines(capsys, *subset, "--list") == [run.split()[0]]


def test_the_list_is_that_of_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(capsys, "--list", "--tables", TABLE_5.name) == list(plan.runs("quick", [TABLE_5]))


@pytest.mark.parametrize("options", [["train=True"], ["train=False", "build=build", "results=results"]])
def test_the_graph_can_be_read_and_ends_in_the_book(options: list[str], tmp_path: Path) -> None:
    """What `make reproduce` and `make book` would do; nothing is run."""
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "-n", "--nolock"]
    if options == ["train=True"]:
        options = [*options, f"build={tmp_path}"]
    done = subprocess.run([*command, "--config", *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    if f"build={tmp_path}" in options:
        jobs = done.stdout + done.stderr
        assert all(name in jobs for name in ("contact_sheet", "data", "runs_1", "table", "book"))


def test_the_quick_profile_never_draws_into_a_folder_that_is_named(tmp_path: Path) -> None:
    """Snakemake would empty it first."""
    (tmp_path / "mine.png").write_text("x")
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "-n", "--nolock", "--config", f"data={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "takes no data=FOLDER" in done.stderr + done.stdout
    for profile, passed in (("quick", False), ("paper", True)):
        shown = subprocess.run(
            ["make", "-n", "reproduce", f"PROFILE={profile}", f"DATA={tmp_path}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert (f"data={tmp_path}" in shown.stdout) == passed, profile


def test_pages_are_made_again_when_a_record_they_show_is_new(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "-n", "--nolock", "--filegraph", "--config"]
    options = ["train=False", f"build={tmp_path}", "results=results"]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shown = {str(path.relative_to(ROOT)) for path in (ROOT / "results" / "real_v1").glob("**/*.json")}
    shown |= {str(path.relative_to(ROOT)) for path in (ROOT / "results" / "benchmarks").iterdir()}
    nodes = re.findall(r'<font point-size="18">(\w+)</font>(.*?)</table>>', done.stdout, re.DOTALL)
    inputs = {rule: set(re.findall(r">(results/[^<]+)<", files.partition(" output<")[0])) for rule, files in nodes}
    assert shown
    assert shown <= inputs["table"]
    assert shown <= inputs["notebook"]


def test_the_paper_profile_asks_for_its_images_and_makes_one_job_of_each_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "-n", "--nolock", "--printshellcmds", "--config"]
    options = ["profile=paper", "train=True", f"build={tmp_path}"]
    without = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)
    assert without.returncode
    assert "needs its images" in without.stderr + without.stdout
    (tmp_path / "images").mkdir()
    done = subprocess.run([*command, *options, f"data={tmp_path / 'images'}"], cwd=ROOT, capture_output=True, text=True)
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    assert printed.count("python -m mambaad reproduce --profile paper --run") == len(plan.runs("paper"))


@pytest.mark.parametrize(
    ("graph", "names", "command"),
    [
        ("evidence.smk", ("data", "weights"), "python -m mambaad evidence --run"),
        ("Snakefile", ("images",), "python -m mambaad evidence --run"),
        ("Snakefile", ("data",), "python -m mambaad reproduce --profile paper --run"),
    ],
)
def test_folders_with_spaces_and_quotes_reach_the_commands_whole(
    tmp_path: Path, graph: str, names: tuple[str, ...], command: str
) -> None:
    """What a shell makes of each command names the folder as one word."""
    options = [f"results={tmp_path / 'records'}"] if graph == "evidence.smk" else [f"build={tmp_path / 'build'}"]
    if "images" in names:
        options += ["train=False", f"results={ROOT / 'results'}"]
    if "data" in names and graph == "Snakefile":
        options += ["profile=paper", "train=True"]
    folders = {name: tmp_path / f"the line's {name}" for name in names}
    for name, folder in folders.items():
        folder.mkdir()
        options.append(f"{name}={folder}")
    words = ["--snakefile", graph, "--cores", "1", "-n", "--nolock", "--printshellcmds", "--config", *options]
    done = subprocess.run([sys.executable, "-m", "snakemake", *words], cwd=ROOT, capture_output=True, text=True)
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    commands = [line.strip() for line in printed.splitlines() if command in line]
    assert commands, printed
    for line in commands:
        assert {str(folder) for folder in folders.values()} <= set(shlex.split(line)), line


def test_cluster_profiles_name_options_of_snakemake() -> None:
    known = subprocess.run([sys.executable, "-m", "snakemake", "--help"], capture_output=True, text=True).stdout
    for path in (ROOT / "profiles").rglob("config.yaml"):
        options = yaml.safe_load(path.read_text(encoding="utf-8"))
        for option in options:
            if not option.startswith(f"{options['executor']}-"):  # Snakemake knows them once the plugin is installed
                assert f"--{option}" in known, f"{path.relative_to(ROOT)}: {option}"


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the runs would be carried out with; nothing is trained or drawn."""
    calls: list[dict[str, Any]] = []

    def execute(run: RunConfig, results: Path, **options: Any) -> Path:
        calls.append({"run": run, "results": results, **options})
        return results

    def write_synthetic(root: Path, **options: Any) -> Path:
        calls.append({"drawn": root, **options})
        return root

    monkeypatch.setattr("mambaad.engine.run.execute", execute)
    monkeypatch.setattr("mambaad.data.synthetic.generate.write_synthetic", write_synthetic)
    return calls


def test_quick_runs_are_made_one_after_the_other_on_images_beside_the_results(
    tmp_path: Path, executed: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    runs = list(plan.runs("quick", [TABLE_5]).items())[:2]
    words = ["reproduce", "--tables", TABLE_5.name, "--results", str(tmp_path / "results"), "--device", "cpu"]
    assert cli.main([*words, "--run", *(run_hash for run_hash, _ in runs)]) == 0
    drawn, made = executed[::2], executed[1::2]
    assert [call["run"] for call in made] == [run for _, run in runs]
    for call, images in zip(made, drawn, strict=True):
        assert call["data_root"] == images["drawn"] == tmp_path / "data"
        assert images["side"] == call["run"].data.side
        assert (call["profile"], call["results"]) == ("quick", tmp_path / "results")
        assert (call["execution"].device, call["execution"].threads) == ("cpu", 1)
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(" (")[0] for line in said] == [
        f"run {number} of 2: {run_hash}" for number, (run_hash, _) in enumerate(runs, start=1)
    ]


def test_prepare_draws_the_images_and_makes_no_run(
    tmp_path: Path, executed: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert lines(capsys, "--prepare", "--data-dir", tmp_path / "here") == [f"images: {tmp_path / 'here'}"]
    assert [call.get("drawn") for call in executed] == [tmp_path / "here"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--list --epochs 7", "--epochs is of the profile subset, not of quick"),
        ("--profile paper --list --depths 2 2 2 2", "--depths is of the profile subset, not of paper"),
        ("--dry-run --speed 30", "--speed is for --profile paper --dry-run"),
        ("--profile paper --prepare", "--prepare draws the synthetic images of the profile quick"),
        ("--profile subset --list", "the profile 'subset' starts with --data-dir"),
        ("--profile subset --list --side 64", "--side needs --data-dir; a study that goes on has its settings"),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    words: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["reproduce", "--results", str(tmp_path), *words.split()]) == 2
    assert message in capsys.readouterr().err


def test_the_paper_s_images_lie_in_a_folder_of_their_data_set(
    tmp_path: Path, executed: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--profile", "paper", "--tables", TABLE_6.name, "--results", tmp_path / "results"]
    lines(capsys, *words, "--data-dir", tmp_path / "images")
    (call,) = executed
    assert call["data_root"] == tmp_path / "images" / call["run"].data.dataset
    assert cli.main(["reproduce", *map(str, words)]) == 2
    assert "needs --data-dir, the root of the images" in capsys.readouterr().err


def test_a_subset_keeps_its_settings_and_goes_on_with_them(
    tmp_path: Path, executed: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    root = layouts.WRITERS["mvtec_ad"](tmp_path / "data")
    encoder = tmp_path / "encoder.safetensors"
    encoder.write_bytes(b"weights")
    named = ["--profile", "subset", "--tables", TABLE_6.name, "--results", tmp_path / "results"]
    chosen = ["--data-dir", root, "--encoder-file", encoder, "--side", 128, "--depths", 2, 2, 2, 2, "--epochs", 7]
    assert cli.main(["reproduce", *map(str, [*named, *chosen])]) == 2
    assert "--encoder-file needs --backbone" in capsys.readouterr().err
    chosen += ["--backbone", "resnet18", "--pad-type", "same", "--mean", 0.1, 0.2, 0.3, "--std", 0.4, 0.5, 0.6]
    lines(capsys, *named, *chosen)
    (call,) = executed
    run, model = call["run"], call["run"].model
    assert (call["data_root"], call["encoder_file"]) == (root, encoder)
    assert (run.data.side, run.train.epochs, run.train.steps) == (128, 7, None)
    assert (model.backbone, model.backbone_kwargs, model.depths) == ("resnet18", {"pad_type": "same"}, (2, 2, 2, 2))
    assert (model.mean, model.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert run.encoder_weights.startswith("encoder.safetensors@")
    assert lines(capsys, *named, "--list") == [run.hash]  # from subset.json: no data folder, no settings
    assert cli.main(["reproduce", *map(str, named)]) == 2  # to train, the images are needed
    assert "needs --data-dir" in capsys.readouterr().err


def test_a_dry_run_tells_what_has_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--tables", TABLE_5.name, "--dry-run", "--results", tmp_path]
    first = next(iter(plan.runs("quick", [TABLE_5]).values()))
    write_fake(tmp_path, "quick", first)
    *described, count = lines(capsys, *words)
    assert count == f"{len(described)} runs"
    done = [line.split()[0] for line in described if line.split()[1] == "done"]
    assert done == [first.hash]
    assert all(f"table {TABLE_5.number}: synthetic at" in line for line in described)

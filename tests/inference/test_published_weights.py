"""Published checkpoints by name: a stand-in for the hub, pins, hashes, and what is said when it cannot be reached."""

import json
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Never

import huggingface_hub
import numpy as np
import pytest
import torch
from published_layout import SMALL, publish

import mambaad
from mambaad import cli
from mambaad.data.synthetic.generate import write_synthetic
from mambaad.inference import weights_hub
from mambaad.inference.weights_hub import (
    PUBLISHED,
    WeightsError,
    cached,
    check,
    fetch,
    pins_file,
    published_by,
    read_pins,
    resolve,
    sha256,
    trained_on,
)
from mambaad.model import CheckpointError
from mambaad.model.checkpoint import read_checkpoint
from mambaad.model.published_checkpoint import published_dialect
from mambaad.study.published_weights import beside_paper, evaluate_published

COMMIT = "a" * 40


@pytest.fixture(scope="module")
def model() -> mambaad.MambaAD:
    torch.manual_seed(1)
    return mambaad.MambaAD(SMALL, weights="random").eval()


class Hub:
    """What the library asks of huggingface_hub, answered from a folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.commit = COMMIT
        self.calls: list[tuple[str, ...]] = []
        self.files = ["README.md", "mvtec/mambaad_mvtec.pth", "realiad/some_name.pth", "medical/a.pth", "medical/b.pth"]

    def repo_info(self, repository: str, revision: str | None = None) -> SimpleNamespace:
        self.calls.append(("repo_info", str(revision)))
        return SimpleNamespace(sha=self.commit if revision is None else revision)

    def list_repo_files(self, repository: str, revision: str | None = None) -> list[str]:
        self.calls.append(("list", str(revision)))
        return self.files

    def download(self, repository: str, file: str, revision: str | None = None) -> str:
        assert repository == "Lewandofski/MambaAD"
        self.calls.append(("download", file, str(revision)))
        path = self.folder / file
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"weights of " + file.encode())
        return str(path)

    def try_to_load(self, repository: str, file: str, revision: str | None = None) -> str | None:
        path = self.folder / file
        return str(path) if path.is_file() and revision == self.commit else None


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub(tmp_path / "hub")
    monkeypatch.setenv("MAMBAAD_PINS", str(tmp_path / "pins" / "published.json"))
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub.download)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", hub.try_to_load)
    return hub


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real client on a machine without a network: an empty cache and a port where nobody answers."""
    monkeypatch.setenv("MAMBAAD_PINS", str(tmp_path / "pins.json"))

    class NoApi:
        def repo_info(self, *_: object, **__: object) -> Never:
            raise ConnectionError("name or service not known\nsecond line")

    monkeypatch.setattr(huggingface_hub, "HfApi", NoApi)
    return tmp_path


def test_the_first_use_pins_commit_and_hash_and_the_next_asks_for_them(hub: Hub) -> None:
    path = fetch("mvtec")
    pin = read_pins()["mvtec_ad"]
    assert (pin.revision, pin.file, pin.repository) == (COMMIT, "mvtec/mambaad_mvtec.pth", "Lewandofski/MambaAD")
    assert (pin.sha256, pin.bytes) == (sha256(path), path.stat().st_size)
    hub.calls.clear()
    hub.commit = "b" * 40  # the repository moved on
    assert fetch("mvtec") == path
    assert fetch("mvtec_ad") == path, "the paper's name and the data set's are one"
    assert hub.calls == 2 * [("download", "mvtec/mambaad_mvtec.pth", COMMIT)]
    assert read_pins() == {"mvtec_ad": pin}


def test_pins_of_the_earlier_name_still_count(hub: Hub) -> None:
    path = fetch("mvtec")
    pins_file().write_text(pins_file().read_text().replace('"mvtec_ad"', '"mvtec"'))
    assert list(read_pins()) == ["mvtec_ad"]
    path.write_bytes(b"something else")
    with pytest.raises(WeightsError, match="do not use it"):
        fetch("mvtec_ad")


def test_another_file_under_the_same_name_is_refused_and_both_hashes_are_named(hub: Hub) -> None:
    path = fetch("mvtec")
    pin = read_pins()["mvtec_ad"]
    path.write_bytes(b"something else")
    for call in (lambda: fetch("mvtec"), lambda: check("mvtec", path), lambda: fetch("mvtec", "v2")):
        with pytest.raises(WeightsError) as caught:
            call()
        assert pin.sha256 in str(caught.value)
        assert sha256(path) in str(caught.value)
        assert str(pins_file()) in str(caught.value)
    assert read_pins()["mvtec_ad"] == pin


def test_a_revision_can_be_named(hub: Hub) -> None:
    fetch("mvtec", "c" * 40)
    assert read_pins()["mvtec_ad"].revision == "c" * 40
    assert ("repo_info", "c" * 40) in hub.calls


def test_a_file_that_is_not_where_it_was_is_the_only_one_in_its_folder(hub: Hub) -> None:
    assert fetch("realiad").name == "some_name.pth"
    assert read_pins()["realiad"].file == "realiad/some_name.pth"
    hub.calls.clear()
    fetch("realiad")
    assert [call[0] for call in hub.calls] == ["download"]
    for name, folder, found in (
        ("medical", "medical", "medical/a.pth, medical/b.pth"),
        ("mvtec3d", "mvtec3d", "none"),
        ("coco1", "cocoad/coco1", "none"),
    ):
        with pytest.raises(WeightsError, match=f"one .pth file was expected in {folder} .* found {found}"):
            fetch(name)
    hub.files += ["medical/mambaad_medical.pth", "cocoad/coco1/any.pth"]
    assert fetch("medical").name == "mambaad_medical.pth", "the known name goes before others in its folder"
    assert fetch("coco1").name == "any.pth"


def test_offline_one_line_says_what_could_not_be_reached_and_what_would_do(
    offline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["weights", "fetch", "mvtec"], ["evaluate", "--weights", "visa", "--data", str(offline)]):
        assert cli.main(command) == 2
        error = capsys.readouterr().err
        assert len(error.strip().splitlines()) == 1
        assert "could not be fetched (ConnectionError)" in error
        assert "Lewandofski/MambaAD on another machine and give the file's path" in error
    assert cli.main(["weights", "verify", "mvtec"]) == 2
    assert "are not on this machine" in capsys.readouterr().err
    assert cli.main(["weights", "list"]) == 0
    assert capsys.readouterr().out.count("not fetched yet") == len(PUBLISHED)


def test_the_real_client_offline_ends_in_the_same_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAMBAAD_PINS", str(tmp_path / "pins.json"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match=r"could not be fetched \(\w+\): download it from"):
        fetch("mvtec")
    assert not pins_file().exists()


def test_unknown_names_and_damaged_pins_are_refused(hub: Hub, tmp_path: Path) -> None:
    for call in (fetch, cached):
        with pytest.raises(WeightsError, match="known are mvtec_ad, visa"):
            call("mvtecc")
    with pytest.raises(WeightsError, match=r"none\.pth does not exist: give the path of a file, or the name"):
        resolve(tmp_path / "none.pth")
    out = tmp_path / "outputs"
    run = out / "runs" / "own_0123456789ab"
    run.mkdir(parents=True)
    with pytest.raises(WeightsError, match="expected a folder with one checkpoint, found none; name the file"):
        resolve(out)
    (run / "checkpoint.pth").touch()
    assert resolve(out) == resolve(run) == run / "checkpoint.pth"
    (out / "other.pth").touch()
    with pytest.raises(WeightsError, match=r"found several: other\.pth, runs/own_0123456789ab/checkpoint\.pth"):
        resolve(out)
    pins_file().parent.mkdir(parents=True)
    for text in ("{", '{"mvtec": {"sha": 1}}', "[]"):
        pins_file().write_text(text)
        with pytest.raises(WeightsError, match="cannot be read"):
            fetch("mvtec")


def test_a_file_of_the_same_name_goes_before_the_hub(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mvtec").write_bytes(b"mine")
    assert resolve("mvtec").read_bytes() == b"mine"
    assert not hub.calls
    (tmp_path / "mvtec").unlink()
    assert resolve("mvtec").name == "mambaad_mvtec.pth"


def test_a_folder_of_the_same_name_goes_before_the_hub_if_it_holds_a_checkpoint(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mvtec").mkdir()  # the images, say
    assert resolve("mvtec").name == "mambaad_mvtec.pth"
    assert published_by("mvtec") is trained_on("mvtec_ad")
    (tmp_path / "mvtec" / "own.pth").write_bytes(b"mine")
    assert resolve("mvtec").read_bytes() == b"mine"
    assert published_by("mvtec") is None
    (tmp_path / "mvtec" / "another.pth").write_bytes(b"mine, too")
    with pytest.raises(WeightsError, match="found several"):
        resolve("mvtec")


# -- what is in the files
def test_verify_tells_dialect_nesting_and_architecture(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = mambaad.ModelConfig(backbone="resnet18", depths=(2, 2, 2, 2), scan="zigzag", directions=2)
    large = mambaad.MambaAD(config, weights="random")
    path = tmp_path / "file.pth"
    torch.save({"net": {f"module.{k}": v for k, v in publish(large, 2).items()}, "epoch": 3}, path)
    assert cli.main(["weights", "verify", str(path)]) == 0
    out = capsys.readouterr().out
    assert "published, dialect 2, under 'net'" in out
    assert "resnet18, depths 2 2 2 2, scan zigzag 2, state size 16" in out
    assert "not compared" in out
    fetch("mvtec").write_bytes(path.read_bytes())
    assert cli.main(["weights", "verify", "mvtec"]) == 2
    assert "but at first use" in capsys.readouterr().err
    pins_file().unlink()
    fetch("mvtec")
    assert cli.main(["weights", "verify", "mvtec"]) == 0
    assert "as at first use" in capsys.readouterr().out
    assert cli.main(["weights", "verify", str(path), "--as", "mvtec"]) == 0
    assert "as at first use" in capsys.readouterr().out
    assert cli.main(["weights", "verify", "neither"]) == 2
    assert "neither a file nor one of the published names" in capsys.readouterr().err
    assert cli.main(["weights", "fetch"]) == 2
    assert "needs a name" in capsys.readouterr().err


def test_the_dialect_is_told_by_the_7x7_branch(model: mambaad.MambaAD) -> None:
    assert published_dialect(publish(model, 1)) == 1
    assert published_dialect({f"module.{k}": v for k, v in publish(model, 2).items()}) == 2
    assert published_dialect(model.state_dict()) is None


@pytest.mark.parametrize("module", ["numpy._core.multiarray", "numpy.core.multiarray"])
def test_numpy_numbers_beside_the_tensors_are_data(model: mambaad.MambaAD, tmp_path: Path, module: str) -> None:
    """Training states hold metrics as numpy numbers, pickled under numpy's old or new module name."""
    numbers = {"auroc": [np.float64(0.5)], "f": np.float32(1), "i": np.int64(2), "b": np.bool_(True)}
    torch.save({"net": publish(model, 1), "metric_recorder": numbers}, tmp_path / "new.pth")
    with zipfile.ZipFile(tmp_path / "new.pth") as old, zipfile.ZipFile(tmp_path / "c.pth", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("data.pkl"):
                assert content.count(b"numpy._core.multiarray") == 1
                content = content.replace(b"numpy._core.multiarray", module.encode())
            new.writestr(name, content)
    assert read_checkpoint(tmp_path / "c.pth")["metric_recorder"] == numbers
    assert mambaad.load_checkpoint(tmp_path / "c.pth", config=SMALL).config == SMALL


def test_numpy_arrays_of_objects_are_still_refused(tmp_path: Path) -> None:
    torch.save({"net": {}, "a": np.array([print], dtype=object)}, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match="was not loaded"):
        read_checkpoint(tmp_path / "c.pth")


# -- evaluation
def test_evaluate_by_name_takes_the_data_set_and_prints_the_paper_beside(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_synthetic(tmp_path / "data", side=64, seed=0, train=1, test=6, categories=("gear",))
    (data / "gear").rename(data / "bottle")
    config = mambaad.ModelConfig(backbone="resnet18", depths=(2, 2, 2, 2), scan="sweep", directions=2)
    path = hub.folder / "mvtec" / "mambaad_mvtec.pth"
    path.parent.mkdir(parents=True)
    torch.save({"net": publish(mambaad.MambaAD(config, weights="random"), 1)}, path)
    out = tmp_path / "m.json"
    call = ["evaluate", "--weights", "mvtec", "--data", str(data), "--device", "cpu", "--side", "64", "--out", str(out)]
    assert cli.main(call) == 0
    text = capsys.readouterr().out
    ours = json.loads(out.read_text())["paper"]["categories"]["bottle"]["image_auroc"]
    _, _, beside = text.partition("published values | published weights, evaluated here | difference")
    line = next(line for line in beside.splitlines() if line.split()[:2] == ["bottle", "image_auroc"])
    assert [float(cell) for cell in line.split()[2:] if cell != "|"] == pytest.approx(
        [100.0, ours, ours - 100], abs=0.006
    )
    assert "mean" in beside
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mvtec").mkdir()
    shutil.copy(path, tmp_path / "mvtec" / "own.pth")
    assert cli.main([*call, "--dataset", "mvtec_ad"]) == 0
    assert "published" not in capsys.readouterr().out, "a folder of that name with a checkpoint is one's own"
    (tmp_path / "mvtec" / "own.pth").unlink()
    assert cli.main([*call, "--categories", "bottle"]) == 0
    _, _, beside = capsys.readouterr().out.partition("| difference")
    assert "mean" not in beside
    assert "bottle" in beside
    root = "mambaad.study.published_numbers.repository_root"
    monkeypatch.setattr(root, lambda: (_ for _ in ()).throw(FileNotFoundError("none")))
    assert cli.main(call) == 0
    assert "the paper's values are not shown: none" in capsys.readouterr().err


def test_evaluate_published_takes_names_too(hub: Hub, tmp_path: Path) -> None:
    hub.download("Lewandofski/MambaAD", "mvtec/mambaad_mvtec.pth")
    with pytest.raises(CheckpointError, match="was not loaded"):  # fetched, but no checkpoint
        evaluate_published("mvtec", "mvtec_ad", tmp_path)
    with pytest.raises(FileNotFoundError, match="give a name"):
        evaluate_published("nothing.pth", "mvtec_ad", tmp_path)


def test_every_name_has_published_values() -> None:
    for name in weights_hub.PUBLISHED:
        values = {"mean": dict.fromkeys(("mad", *mambaad.metrics.METRICS), 50.0), "categories": {}}
        frame = beside_paper(name, {"paper": values, "exact": values})
        assert frame["paper"].notna().sum() >= 7

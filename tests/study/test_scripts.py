"""The scripts that write records say what was run, and take nothing for their own that another call left."""

import importlib
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Never

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("scripts", "scripts/reliability"):
        monkeypatch.syspath_prepend(ROOT / folder)


def test_distances_of_another_bank_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import own_parts_ablation as script

    from mambaad.config import LITE0_ENCODER, MemoryBankConfig, config_hash

    def computes(*_: Any, **__: Any) -> Never:
        raise RuntimeError("computed anew")

    run, bank = script.settings(10, 0), MemoryBankConfig(**LITE0_ENCODER)
    for part in ("cosine", "euclidean"):
        np.savez(tmp_path / f"name_{part}.npz", held=np.zeros(1), test=np.ones(1))
    for side in (128, 256):
        np.savez(tmp_path / f"name_{config_hash(bank)}_bank_{side}.npz", held=np.zeros(1), test=np.ones(1))
    monkeypatch.setattr(script, "MemoryBank", computes)
    monkeypatch.setattr(script, "train_run", computes)
    assert script.distances(run, [], tmp_path, "name").keys() == {"bank_128", "bank_256", "cosine", "euclidean"}
    monkeypatch.setattr(script, "MemoryBankConfig", lambda **_: replace(bank, entries=7))
    with pytest.raises(RuntimeError, match="computed anew"):
        script.distances(run, [], tmp_path, "name")


def test_seconds_are_those_of_a_whole_call_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import own_parts_defaults as script

    def record(name: str) -> None:
        mean = dict.fromkeys(("image_auroc", "pixel_auroc", *script.METRICS), 1.0)
        content = {"hash": name, "environment": {}, "config": {"train": {"steps": 5}}}
        (tmp_path / "runs").mkdir(exist_ok=True)
        (tmp_path / "runs" / f"{name}.json").write_text(json.dumps(content | {"metrics": {"exact": {"mean": mean}}}))

    writes: list[str] = ["a"]

    def run(*_: Any, **__: Any) -> SimpleNamespace:
        for name in writes:
            record(name)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    done = script.train(Path("images"), tmp_path, [], beside=False)
    assert (done["hash"], done["seconds"]) == ("a", 0)
    writes[:] = []
    done = script.train(Path("images"), tmp_path, [], beside=False)
    assert (done["hash"], done["seconds"]) == ("a", None), "the call before has done the work"
    writes[:] = ["b"]
    assert script.train(Path("images"), tmp_path, [], beside=False)["hash"] == "b"
    writes[:] = []
    with pytest.raises(SystemExit, match="records of 2 settings; name another folder"):
        script.train(Path("images"), tmp_path, [], beside=False)


def test_kills_of_another_kind_are_not_added_to_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import kills as script

    out = tmp_path / "kills.json"
    out.write_text(json.dumps({"signal": "SIGKILL", "processes": 1, "kills": 3}))
    monkeypatch.setattr("sys.argv", ["kills", "--signal", "TERM", "--out", str(out)])
    with pytest.raises(SystemExit):
        script.main()
    assert "was made with signal SIGKILL, not SIGTERM: name another file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "said", "printed", "data_set", "wrong"),
    [
        (0, "", "", False, False),
        (2, "one line\n", "", False, False),
        (2, "one\ntwo\n", "", False, True),
        (2, "unknown key 'Traceback'\n", "", False, False),
        (2, "", "", False, True),
        (1, "", "", False, True),
        (1, "", "", True, True),
        (1, "", "3 faults\n", True, False),
        (2, "one line\n", "", True, True),
        (0, "a warning\n", "", False, True),
        (None, "", "", False, True),
        (2, "Traceback (most recent call last):\n", "", False, True),
    ],
)
def test_an_ending_that_no_user_could_read_is_wrong(
    code: int | None, said: str, printed: str, data_set: bool, wrong: bool
) -> None:
    import fuzz as script

    assert bool(script.unexpected(code, said, printed, data_set, 1)) == wrong


def test_a_reader_that_changes_a_file_is_seen(tmp_path: Path) -> None:
    import fuzz as script
    from hypothesis import strategies as st

    (tmp_path / "fed").write_text("x")
    (tmp_path / "other").write_text("x")
    for name, endings in (("fed", {"0": 3}), ("other", {"wrong": 3})):

        def read(value: int, name: str = name) -> int:
            (tmp_path / name).write_text(f"changed {value}")
            return 0

        found, _ = script.portion(st.integers(5, 9), read, 3, 0, tmp_path, {tmp_path / "fed"}, "settings")
        assert found == endings


def test_unseen_surfaces_are_spoilt_within_their_masks_and_tested_beside_what_is_trained_on(tmp_path: Path) -> None:
    pytest.importorskip("skimage", reason="needs scikit-image, of the extra dev")
    import own_parts_unseen as script
    from PIL import Image
    from scipy.ndimage import binary_dilation

    assert script.LEFT[1] <= script.RIGHT[0]
    rng = np.random.default_rng(0)
    for defect in script.DEFECTS:
        image = script.piece(script.photograph("brick"), script.RIGHT, rng)
        spoilt, mask = script.spoil(image, defect, script.piece(script.photograph("grass"), script.RIGHT, rng), rng)
        assert mask.any()
        changed = np.abs(spoilt - image).max(2)
        assert not changed[~binary_dilation(mask)].any(), defect
        assert changed[mask].mean() > 0.01, defect
    script.write("gravel", tmp_path)
    assert len(list(tmp_path.glob("train/good/*.png"))) == script.TRAIN
    for defect in script.DEFECTS:
        images, masks = (sorted(tmp_path.glob(f"{place}/{defect}/*.png")) for place in ("test", "ground_truth"))
        assert len(images) == len(masks) == script.EACH
    left = np.floor(script.photograph("gravel") * 255 + 0.5).astype(np.uint8)[:, slice(*script.LEFT)]
    first = np.asarray(Image.open(tmp_path / "train/good/000.png"))[..., 0]
    windows = np.lib.stride_tricks.sliding_window_view(left, first.shape)
    assert (windows[:, :, 0] == first[0]).all(-1).any(), "training images are pieces of the left part"


@pytest.mark.parametrize("name", ["own_parts_defaults", "own_parts_unseen"])
def test_without_a_category_all_are_measured(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = importlib.import_module(name)
    done = {"seconds": None, "metrics": {"mad": 50.0}}
    monkeypatch.setattr(script, "train", lambda *_, **__: done)
    words = [
        "--out",
        str(tmp_path),
        *(["--data", "data"] if name == "own_parts_defaults" else ["--images", str(tmp_path)]),
    ]
    monkeypatch.setattr("sys.argv", [name, *words])
    script.main()
    expected = script.FOLDERS if name == "own_parts_defaults" else script.SURFACES
    assert {path.stem for path in tmp_path.glob("*.json")} == set(expected)
    for path in tmp_path.glob("*.json"):
        recipes = json.loads(path.read_text())["recipes"]
        assert set(recipes) == set(script.RECIPES) - set(script.LONG)
        if name == "own_parts_unseen":
            assert all(set(seeds) == {"0", "1", "2"} for seeds in recipes.values())

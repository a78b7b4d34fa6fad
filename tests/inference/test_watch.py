"""A watched folder: every image gets one line, whole files only, and nothing is lost or doubled by an interruption."""

import csv
import io
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_model import small
from torch import Tensor

import mambaad
from mambaad import cli
from mambaad.data import DatasetError
from mambaad.inference import watch as watch_module
from mambaad.inference.image_files import find_images
from mambaad.inference.predict import predict_files
from mambaad.inference.threshold import Threshold
from mambaad.inference.watch import PATIENCE, Scored, watch_folder

MADE_WITH = {"checkpoint": "abc", "threshold": 0.01}
LIMIT = Threshold.given(0.01, 64)


@pytest.fixture(scope="module")
def model() -> mambaad.MambaAD:
    torch.manual_seed(1)
    return small(scan="sweep", directions=2).eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


def picture(seed: int = 0, size: int = 40) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def watch(
    model: mambaad.MambaAD,
    folder: Path,
    *steps: Callable[[], object],
    threshold: Threshold | None = LIMIT,
    made_with: dict[str, Any] = MADE_WITH,
    **options: Any,
) -> list[Scored]:
    """What is yielded while the steps are carried out, one after each look, until Ctrl-C after the last."""
    left = iter([*steps, lambda: None, lambda: None])

    def sleep(_: float) -> None:
        step = next(left, None)
        if step is None:
            raise KeyboardInterrupt
        step()

    rows: list[Scored] = []
    watched = watch_folder(
        model,
        folder,
        folder.parent / "out",
        side=64,
        threshold_of=lambda path: threshold,
        made_with=made_with,
        device="cpu",
        sleep=sleep,
        **options,
    )
    with suppress(KeyboardInterrupt):
        rows.extend(watched)
    return rows


def table(folder: Path) -> list[dict[str, str]]:
    with (folder.parent / "out" / "scores.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def nothing() -> None: ...


def test_images_are_scored_as_they_come_and_as_predict_scores_them(
    model: mambaad.MambaAD, folder: Path, tmp_path: Path
) -> None:
    (folder / "a.png").write_bytes(picture(1))
    later = [
        lambda: (folder / "b.png").write_bytes(picture(2)),
        nothing,
        lambda: (folder / "line 2").mkdir(),
        lambda: (folder / "line 2" / "=c.png").write_bytes(picture(3)),
        lambda: (folder / "notes.txt").write_text("no image"),
    ]
    rows = watch(model, folder, *later)
    assert [row.name for row in rows] == ["a.png", "b.png", "line 2/=c.png"]
    done = predict_files(
        model, find_images(folder), tmp_path / "p", root=folder, side=64, threshold=LIMIT, device="cpu", progress=False
    )
    wanted = {row.name: row for row in done.rows}
    out = tmp_path / "out"
    for row, line in zip(rows, table(folder), strict=True):
        assert row.score == pytest.approx(wanted[row.name].score)
        assert row.anomalous == wanted[row.name].anomalous
        assert (line["image"], line["score"], line["anomalous"]) == (row.name, f"{row.score:.9g}", f"{row.anomalous:d}")
        np.testing.assert_allclose(
            np.load(out / "maps" / f"{row.name}.npy"), np.load(tmp_path / "p" / "maps" / f"{row.name}.npy"), atol=1e-6
        )
        assert (out / "overlays" / f"{row.name}.jpg").is_file()


def test_an_empty_folder_is_waited_on_and_one_that_is_missing_is_refused(
    model: mambaad.MambaAD, folder: Path, tmp_path: Path
) -> None:
    assert watch(model, folder) == []
    assert table(folder) == []
    with pytest.raises(DatasetError, match="a folder to watch was expected"):
        watch(model, tmp_path / "nowhere")


def test_a_file_in_the_making_is_waited_for(model: mambaad.MambaAD, folder: Path) -> None:
    whole = picture(4, size=200)
    file = folder / "slow.png"
    parts = [lambda end=end: file.write_bytes(whole[:end]) for end in range(20_000, len(whole), 20_000)]
    assert len(parts) > 3
    rows = watch(model, folder, *parts, nothing, nothing, nothing, lambda: file.write_bytes(whole), nothing)
    assert [(row.name, row.error) for row in rows] == [("slow.png", "")]


def test_a_broken_file_gets_its_reason_in_the_end_and_a_score_once_it_is_mended(
    model: mambaad.MambaAD, folder: Path
) -> None:
    file = folder / "x.png"
    file.write_bytes(picture()[:500])
    wait = [nothing] * (PATIENCE + 2)
    rows = watch(model, folder, *wait, lambda: file.write_bytes(picture()))
    assert [row.score is None for row in rows] == [True, False]
    assert "cannot be read as an image" in rows[0].error
    assert [line["error"] == "" for line in table(folder)] == [False, True]
    (folder / "y.png").write_bytes(b"never an image")
    assert [row.name for row in watch(model, folder, *wait)] == ["y.png"]
    assert [row.name for row in watch(model, folder, *wait)] == ["y.png"]  # of an earlier call: tried again


def test_a_name_too_long_for_a_suffix_gets_its_reason_and_the_watch_goes_on(
    model: mambaad.MambaAD, folder: Path
) -> None:
    (folder / f"{'x' * 248}.png").write_bytes(picture())
    rows = watch(model, folder, nothing, lambda: (folder / "y.png").write_bytes(picture()), nothing)
    assert [row.score is None for row in rows] == [True, False]
    assert "shorten it" in rows[0].error


def test_an_image_that_is_replaced_while_it_is_read_is_taken_later(
    model: mambaad.MambaAD, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "a.png"
    file.write_bytes(picture(1))
    read = watch_module.load_image

    def replaced(path: Path, *arguments: Any) -> Tensor:
        tensor = read(path, *arguments)
        monkeypatch.undo()
        file.write_bytes(picture(2, size=50))
        return tensor

    monkeypatch.setattr(watch_module, "load_image", replaced)
    (row,) = watch(model, folder, nothing, nothing)
    (line,) = table(folder)
    assert float(line["score"]) == pytest.approx(row.score)
    config = model.config
    wanted = model.predict(read(file, 64, config.mean, config.std)[None]).score
    assert row.score == pytest.approx(float(wanted))


def test_a_later_call_goes_on_where_the_earlier_one_was_stopped(model: mambaad.MambaAD, folder: Path) -> None:
    for name in "abc":
        (folder / f"{name}.png").write_bytes(picture(ord(name)))
    scored = watch_folder_rows(model, folder)
    next(scored)
    scored.close()  # stopped after the first line, in the middle of a batch
    out = folder.parent / "out"
    assert len(table(folder)) == 1
    with (out / "scores.csv").open("a") as file:
        file.write("b.png,0.0")  # a line that a power failure cut off
    (out / "maps" / ".1-2.tmp.npy").write_bytes(b"half")
    assert len(watch(model, folder)) == 2
    assert [line["image"] for line in table(folder)] == ["a.png", "b.png", "c.png"]
    assert watch(model, folder) == []


def watch_folder_rows(model: mambaad.MambaAD, folder: Path) -> Generator[Scored]:
    watched = watch_folder(
        model,
        folder,
        folder.parent / "out",
        side=64,
        threshold_of=lambda path: LIMIT,
        made_with=MADE_WITH,
        device="cpu",
        sleep=lambda _: None,
    )
    assert isinstance(watched, Generator)
    return watched


def test_scores_of_another_checkpoint_or_another_command_are_not_mixed(
    model: mambaad.MambaAD, folder: Path, tmp_path: Path
) -> None:
    (folder / "a.png").write_bytes(picture())
    watch(model, folder)
    with pytest.raises(ValueError, match=r"made with another checkpoint, threshold: choose another --out"):
        watch(model, folder, made_with={"checkpoint": "def", "threshold": 0.02})
    (tmp_path / "out" / "watch.json").unlink()
    with pytest.raises(ValueError, match="was not made by watching"):
        watch(model, folder)


def test_two_processes_do_not_watch_into_one_folder(model: mambaad.MambaAD, folder: Path) -> None:
    (folder / "a.png").write_bytes(picture())
    first = watch_folder_rows(model, folder)
    next(first)
    with pytest.raises(ValueError, match="is in use by process"):
        next(watch_folder_rows(model, folder))
    first.close()
    assert watch(model, folder) == []


def test_without_a_threshold_there_is_a_score_and_no_overlay(
    model: mambaad.MambaAD, folder: Path, tmp_path: Path
) -> None:
    (folder / "a.png").write_bytes(picture())
    (row,) = watch(model, folder, threshold=None, maps="tiff")
    assert row.anomalous is None
    assert table(folder)[0]["anomalous"] == ""
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if not p.name.startswith(".")) == [
        "maps",
        "scores.csv",
        "watch.json",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"interval": 0}, "must be positive"), ({"maps": "png"}, "maps must be"), ({"batch_size": 0}, "at least 1")],
)
def test_wrong_values_are_refused(model: mambaad.MambaAD, folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        watch(model, folder, **options)


def test_the_command_watches_until_ctrl_c(
    model: mambaad.MambaAD, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "c.pth"
    mambaad.save_checkpoint(weights, model, {"run": {"data": {"side": 64}}})
    (folder / "a.png").write_bytes(picture())
    out = tmp_path / "out"
    call = ["predict", str(folder), "--weights", str(weights), "--out", str(out), "--device", "cpu", "--threshold", "0"]

    # a process of its own, whose Ctrl-C cannot end the tests; one started in the background would ignore it
    watching = subprocess.Popen(
        [sys.executable, "-m", "mambaad", *call, "--watch", "0.05"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert watching.stdout is not None
        said = next((line for line in watching.stdout if "a.png" in line), None)
        assert said is not None, watching.communicate(timeout=60)[1]
        assert "not OK" in said
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate(timeout=60)
    finally:
        watching.kill()
    assert watching.returncode == 130
    assert "Traceback" not in err
    assert table(folder)[0]["anomalous"] == "1"
    assert cli.main([*call, "--watch", "--ground-truth", str(folder)]) == 2
    assert cli.main([*call, "--watch", "--side", "96", "--threshold", "0.1"]) == 2
    assert "made with another side, threshold" in capsys.readouterr().err

"""A curve shows how a network learns, and changes nothing about it."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Never

import pytest
import torch
from small_run import MODEL, QUIETLY, RUN

from mambaad.config import MambaADBankConfig
from mambaad.engine import records
from mambaad.engine.curve import CURVE, Curve
from mambaad.engine.run import execute
from mambaad.model.checkpoint import read_checkpoint

CHECKPOINT = f"runs/quick_{RUN.hash}/checkpoint.pth"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = read_checkpoint(folder / CHECKPOINT)["state_dict"]
    return found


def test_a_curve_ends_in_the_records_metrics_and_leaves_the_weights_as_they_are(drawn: Path, tmp_path: Path) -> None:
    options = {"profile": "quick", "data_root": drawn, "execution": QUIETLY}
    plain = records.read_record(execute(RUN, tmp_path / "plain", outputs=tmp_path / "a", **options))  # type: ignore[arg-type]
    path = execute(RUN, tmp_path / "curve", outputs=tmp_path / "b", curve_every=4, **options)  # type: ignore[arg-type]
    found = records.read_record(path)
    assert [point["step"] for point in found["curve"]["points"]] == [4, 6]
    assert found["curve"]["every"] == 4
    for protocol in ("exact", "paper"):
        assert found["curve"]["points"][-1][protocol] == found["metrics"][protocol]["mean"]
        assert found["curve"]["points"][0][protocol] != found["metrics"][protocol]["mean"]
    assert found["metrics"] == plain["metrics"]
    assert found["train"]["loss"] == plain["train"]["loss"]
    one, other = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert "curve" not in plain


def test_a_run_whose_training_is_over_has_its_last_point(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"profile": "quick", "data_root": drawn, "outputs": tmp_path, "execution": QUIETLY}

    def fails(*_: object, **__: object) -> Never:
        raise OSError("after training")

    monkeypatch.setattr("mambaad.engine.run.count", fails)
    with pytest.raises(OSError, match="after training"):
        execute(RUN, tmp_path / "results", **options)  # type: ignore[arg-type]
    monkeypatch.undo()
    path = execute(RUN, tmp_path / "results", curve_every=4, **options)  # type: ignore[arg-type]
    found = records.read_record(path)
    (point,) = found["curve"]["points"]
    assert point == {"step": 6} | {name: values["mean"] for name, values in found["metrics"].items()}
    capsys.readouterr()
    execute(RUN, tmp_path / "results", curve_every=2, **options)  # type: ignore[arg-type]
    assert "made with no curve of every 2 steps: remove it to train again" in capsys.readouterr().err


def test_a_method_that_cannot_predict_yet_has_no_curve(drawn: Path, tmp_path: Path) -> None:
    bank = MambaADBankConfig(backbone=MODEL.backbone, backbone_kwargs=MODEL.backbone_kwargs, network=MODEL, entries=64)
    with pytest.raises(ValueError, match="mambaad_bank can predict only after its last step"):
        Curve(tmp_path, replace(RUN, model=bank), [], 2, QUIETLY)


def test_an_interrupted_curve_keeps_its_points(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, measured = Curve.__call__, []

    def watched(self: Curve, method: object, step: int, is_last: bool) -> None:
        measured.append(step)
        original(self, method, step, is_last)  # type: ignore[arg-type]
        if measured == [1, 2, 3]:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Curve, "__call__", watched)
    options = {"profile": "quick", "data_root": drawn, "execution": QUIETLY, "curve_every": 2}
    with pytest.raises(KeyboardInterrupt):
        execute(RUN, tmp_path / "results", outputs=tmp_path, **options)  # type: ignore[arg-type]
    kept = json.loads((tmp_path / "runs" / f"quick_{RUN.hash}" / CURVE).read_text())["points"]
    assert [point["step"] for point in kept] == [2]
    found = records.read_record(execute(RUN, tmp_path / "results", outputs=tmp_path, **options))  # type: ignore[arg-type]
    assert [point["step"] for point in found["curve"]["points"]] == [2, 4, 6]
    assert found["curve"]["points"][0] == kept[0]
    assert measured == [1, 2, 3, 4, 5, 6]


def test_a_curve_needs_a_step_between_its_points(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one step"):
        Curve(tmp_path, RUN, [], 0, QUIETLY)


def test_points_of_another_run_or_distance_are_not_taken_over(tmp_path: Path) -> None:
    for content, points in (
        ({"hash": RUN.hash, "every": 2, "points": [{"step": 2}]}, [{"step": 2}]),
        ({"hash": RUN.hash, "every": 3, "points": [{"step": 3}]}, []),
        ({"hash": "another", "every": 2, "points": [{"step": 2}]}, []),
    ):
        (tmp_path / CURVE).write_text(json.dumps(content))
        assert Curve(tmp_path, RUN, [], 2, QUIETLY).points == points


def test_the_first_of_several_processes_alone_writes_the_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mambaad.engine.curve.evaluate_run", lambda *_: {})  # what the others are given
    model = torch.nn.Linear(1, 1)
    curve = Curve(tmp_path, RUN, [], 2, QUIETLY)
    curve(model, 2, False)  # type: ignore[arg-type]
    assert model.training
    assert curve.facts() == {"curve": {"every": 2, "points": []}}
    assert not list(tmp_path.iterdir())

"""One run from its settings to its record."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.version import Version
from small_run import MODEL, QUIETLY, RUN
from torch import Tensor

import mambaad
from mambaad import cli
from mambaad.config import run_config_from_dict
from mambaad.data import DatasetError, Sample, load_dataset
from mambaad.engine import records, train
from mambaad.engine import run as runner
from mambaad.engine.evaluate import evaluate_run
from mambaad.engine.execution import Execution
from mambaad.engine.run import execute
from mambaad.files import write_json
from mambaad.model import MambaAD


@pytest.fixture(scope="module")
def record(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("results")
    return execute(RUN, results, profile="quick", data_root=drawn, execution=QUIETLY)


def test_the_record_says_what_is_needed_to_repeat_the_run(record: Path) -> None:
    content = records.read_record(record)
    assert record.name == f"quick_{RUN.hash}.json"
    assert run_config_from_dict(content["config"]) == RUN
    assert content["seed"] == 3
    assert content["data"]["counts"] == {"gear": {"train": 9, "test_good": 2, "test_defect": 4}}
    assert set(content["metrics"]) == {"exact", "paper"}
    assert content["metrics"]["exact"]["mean"].keys() == content["metrics"]["exact"]["categories"]["gear"].keys()
    # an installed wheel may leave its local version ("+cpu") out of its metadata, and nothing else
    assert Version(content["environment"]["packages"]["torch"]).public == Version(torch.__version__).public
    assert content["train"]["steps"] == 6
    assert content["execution"] == {
        "precision": "32-true",
        "compiled": False,
        "features": "off",
        "features_in": "none",
        "image_cache": False,
        "processes": 1,
        "threads": 1,
        "workers": 0,
    }
    assert str(Path.home()) not in record.read_text()


def test_the_record_says_how_the_run_was_carried_out(drawn: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    execution = replace(QUIETLY, workers=1, image_cache=cache, features="float16", feature_dir=cache)
    path = execute(RUN, tmp_path, profile="quick", data_root=drawn, execution=execution)
    content = records.read_record(path)
    wanted = {"features": "float16", "features_in": "folder", "image_cache": True, "workers": 1}
    assert content["execution"] | wanted == content["execution"]
    assert content["hash"] == RUN.hash  # the same run, carried out otherwise
    assert str(tmp_path) not in path.read_text()


def test_threads_are_pinned_whatever_torch_has(
    record: Path, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook run by itself takes as many threads as `make reproduce`, or the last digits would differ."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    seen = []
    original = MambaAD.predict

    def predict(self: MambaAD, images: Tensor) -> Any:
        seen.append(torch.get_num_threads())
        return original(self, images)

    monkeypatch.setattr(MambaAD, "predict", predict)
    try:
        path = execute(RUN, tmp_path, profile="quick", data_root=drawn, execution=QUIETLY)
        assert torch.get_num_threads() == 3
        other = execute(
            RUN, tmp_path / "other", profile="quick", data_root=drawn, execution=replace(QUIETLY, threads=2)
        )
        free = execute(
            RUN, tmp_path / "free", profile="quick", data_root=drawn, execution=replace(QUIETLY, threads=None)
        )
    finally:
        torch.set_num_threads(before)
    assert sorted(set(seen)) == [1, 2, 3]
    wanted, *found = (records.read_record(p) for p in (record, path, other, free))
    assert [content["execution"]["threads"] for content in found] == [1, 2, 3]
    assert [content["environment"]["threads"] for content in found] == [1, 2, 3]
    assert found[0]["train"]["loss"] == wanted["train"]["loss"]
    assert found[0]["metrics"] == wanted["metrics"]


def test_the_data_set_is_read_once(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def load(*arguments: Any) -> list[Sample]:
        calls.append(arguments)
        return load_dataset(*arguments)

    for module in (mambaad.data, train, runner, mambaad.engine.evaluate):
        monkeypatch.setattr(module, "load_dataset", load, raising=False)
    execute(RUN, tmp_path, profile="quick", data_root=drawn, execution=QUIETLY)
    assert len(calls) == 1
    options = ["--depths", "2", "2", "2", "2", "--side", "64", "--batch-size", "4", "--steps", "1", "--device", "cpu"]
    data = ["--data", str(drawn), "--out", str(tmp_path / "out"), "--encoder-weights", "embedded"]
    assert cli.main(["train", *data, *options]) == 0
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"features": "yes"}, "features must be one of off, float32, float16, got 'yes'"),
        ({"threads": 0}, "threads must be from 1 to 1024, got 0"),
        ({"processes": -1}, "processes must be from 1 to 1024, got -1"),
        ({"workers": -1}, "workers must be from 0 to 1024, got -1"),
    ],
)
def test_execution_refuses_what_cannot_be(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Execution(**values)


def test_a_finished_run_is_not_repeated(record: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = record.stat().st_mtime_ns
    execute(RUN, record.parents[1], profile="quick", data_root=drawn, execution=QUIETLY)
    assert record.stat().st_mtime_ns == before


def test_metrics_of_a_run_equal_those_of_its_maps(drawn: Path) -> None:
    model = MambaAD(MODEL, weights="random").eval()
    samples = load_dataset("synthetic", drawn)
    got = evaluate_run(model, RUN, samples, QUIETLY, batch_size=4)
    samples = [s for s in samples if s.split == "test"]
    from mambaad.data.image_set import ImageSet

    images = ImageSet(samples, 64, MODEL.mean, MODEL.std)
    maps = torch.cat([model.predict(images[i][0][None]).anomaly_map for i in range(len(images))])
    masks = torch.stack([images[i][1] for i in range(len(images))])
    wanted = mambaad.metrics.evaluate(maps, masks)
    assert got["exact"]["categories"]["gear"] == pytest.approx(wanted, abs=1e-3)
    assert got["exact"]["mean"] == pytest.approx(wanted, abs=1e-3)


def test_synthetic_sets_of_other_categories_lie_side_by_side(tmp_path: Path) -> None:
    folders = [
        runner.data_folder(replace(RUN.data, synthetic_train=3, synthetic_test=3, categories=chosen), None, tmp_path)
        for chosen in (("gear",), ("resistor",))
    ]
    assert [sorted(child.name for child in folder.iterdir() if child.is_dir()) for folder in folders] == [
        ["gear"],
        ["resistor"],
    ]


def test_evaluation_without_test_images_is_refused(tmp_path: Path, drawn: Path) -> None:
    model = MambaAD(MODEL, weights="random")
    only_good = [s for s in load_dataset("synthetic", drawn) if s.split == "train"]
    with pytest.raises(DatasetError, match="no test images"):
        mambaad.engine.evaluate.evaluate_samples(model, only_good, 64, QUIETLY)


def test_records_refuse_what_is_none(tmp_path: Path, record: Path) -> None:
    content = json.loads(record.read_text())
    with pytest.raises(records.RecordError, match="cannot be read"):
        records.read_record(tmp_path / "none.json")
    (tmp_path / "x.json").write_text("{broken")
    with pytest.raises(records.RecordError, match="cannot be read"):
        records.read_record(tmp_path / "x.json")
    for damaged in (b"\xff\xfe", b"[" * 100_000):
        (tmp_path / "x.json").write_bytes(damaged)
        with pytest.raises(records.RecordError, match="cannot be read"):
            records.read_record(tmp_path / "x.json")
    with pytest.raises(records.RecordError, match="has no metrics"):
        records.write_record(tmp_path / "x.json", {k: v for k, v in content.items() if k != "metrics"})
    with pytest.raises(records.RecordError, match="schema version 99"):
        records.write_record(tmp_path / "x.json", {**content, "schema": 99})
    with pytest.raises(ValueError, match="cannot hold inf"):
        write_json(tmp_path / "x.json", {"a": math.inf})


def test_undefined_metrics_survive_the_record(tmp_path: Path, record: Path) -> None:
    content = records.read_record(record)
    content["metrics"]["exact"]["mean"]["pixel_aupro"] = math.nan
    content["metrics"]["exact"]["bounds"] = {"mean": {"pixel_aupro": (math.nan, 1.0)}}
    path = records.write_record(tmp_path / "runs" / "quick_abc.json", content)
    assert "NaN" not in path.read_text()
    found = records.find_record(tmp_path, "abc")
    assert found is not None
    assert math.isnan(found["metrics"]["exact"]["mean"]["pixel_aupro"])
    assert math.isnan(found["metrics"]["exact"]["bounds"]["mean"]["pixel_aupro"][0])
    assert records.find_record(tmp_path, "unknown") is None

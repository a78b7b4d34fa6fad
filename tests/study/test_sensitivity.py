"""Readings of one trained network: the published one is the evaluation itself, the others change what they name."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_run import MODEL

from mambaad.data import Sample, load_dataset
from mambaad.data.synthetic.generate import write_synthetic
from mambaad.engine.evaluate import evaluate_samples
from mambaad.model import MambaAD, save_checkpoint
from mambaad.study.evidence import protocol, sensitivity
from mambaad.study.evidence.carry_out import recorded
from mambaad.study.evidence.sensitivity import PUBLISHED, READINGS, top_mean
from mambaad.study.published_numbers import repository_root
from mambaad.study.tables_spec import TABLE_5


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    root = write_synthetic(
        tmp_path_factory.mktemp("set") / "data", side=64, train=2, test=6, categories=("gear", "fabric")
    )
    return load_dataset("synthetic", root)


@pytest.fixture(scope="module")
def model() -> MambaAD:
    torch.manual_seed(0)
    return MambaAD(MODEL, weights="random").eval()


def test_the_published_reading_is_the_evaluation(model: MambaAD, samples: list[Sample]) -> None:
    readings = sensitivity.read_all(model, samples, 64)
    assert set(readings) == set(READINGS)
    evaluated = evaluate_samples(model, samples, 64)
    for rules, values in readings[PUBLISHED].items():
        assert values == pytest.approx(evaluated[rules]["mean"], abs=1e-3)
    assert readings["sigma 8 pixels"]["exact"]["mad"] != readings[PUBLISHED]["exact"]["mad"]
    top = readings["score: mean of the highest 5.0%"]["exact"]
    assert {k: v for k, v in top.items() if k.startswith("pixel")} == pytest.approx(
        {k: v for k, v in readings[PUBLISHED]["exact"].items() if k.startswith("pixel")}
    )


def test_the_mean_of_one_pixel_is_the_maximum() -> None:
    maps = np.random.default_rng(0).random((3, 8, 8), dtype=np.float32)
    assert top_mean(maps, 1e-6) == pytest.approx(maps.max(axis=(1, 2)))
    assert top_mean(maps, 1.0) == pytest.approx(maps.mean(axis=(1, 2)))


def test_the_record_names_the_weights_and_the_table_is_relative_to_the_published_reading(
    model: MambaAD, samples: list[Sample], tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "a.pth", model)
    path = sensitivity.measure({0: tmp_path / "a.pth", 3: tmp_path / "a.pth"}, samples, 64, tmp_path)
    record = json.loads(path.read_text(encoding="utf-8"))
    assert set(record["seeds"]) == {"0", "3"}
    assert len(record["seeds"]["3"]["weights_sha256"]) == 64
    table = sensitivity.table(record).set_index("reading")
    assert table.loc[PUBLISHED, "mad"] == 0
    assert (table["mad_low"] == table["mad_high"]).all()  # the same weights twice


def test_the_committed_record_starts_from_what_the_runs_recorded() -> None:
    folder = repository_root() / "results" / protocol.NAME
    record = json.loads((folder / sensitivity.FILE).read_text(encoding="utf-8"))
    main = next(row for row in protocol.rows(TABLE_5.name) if row.name == protocol.REFERENCES[TABLE_5.name])
    runs = recorded(main, folder)
    assert record["seeds"].keys() == {str(seed) for seed in runs}
    for seed, run in runs.items():
        for rules, values in record["seeds"][str(seed)]["readings"][PUBLISHED].items():
            assert values == pytest.approx({name: run["metrics"][rules]["mean"][name] for name in values}, abs=0.02)

"""A run made again is told from the recorded ones; noise of runs in which nothing that matters differs."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from fake_records import write_fake
from test_evidence_report import write

from mambaad.engine.records import record_path
from mambaad.study import noise_floor
from mambaad.study.evidence import protocol
from mambaad.study.evidence.rerun import beside_recorded, expected
from mambaad.study.profiles import quick_base


def test_a_further_run_lies_inside_as_often_as_said() -> None:
    random = np.random.default_rng(0)
    inside = []
    for _ in range(2000):
        *values, further = random.normal(70, 2, size=6).tolist()
        low, high = expected(values)
        inside.append(low <= further <= high)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)
    with pytest.raises(ValueError, match="at least two recorded runs, got 1"):
        expected([70.0])


@pytest.mark.parametrize(("mad", "word"), [(80.2, "Inside"), (60.0, "OUTSIDE")])
def test_a_rerun_is_judged_by_the_recorded_seeds(tmp_path: Path, mad: float, word: str) -> None:
    row = protocol.rows(protocol.METHODS)[0]
    for seed, value in enumerate((80.0, 80.3, 79.8)):
        write(tmp_path / "recorded", row, seed, value)
    write(tmp_path / "new", row, 1, mad)
    path = record_path(tmp_path / "new", protocol.NAME, row.run(1).hash)
    record = json.loads(path.read_text()) | {"seed": 1}
    path.write_text(json.dumps(record))
    words = beside_recorded(row, path, tmp_path / "recorded")
    assert word in words
    assert f"mAD {mad}; recorded with this seed: 80.3" in words
    assert beside_recorded(row, path, tmp_path / "nothing") == ""


def test_the_noise_floor_names_what_was_varied_alone(tmp_path: Path) -> None:
    base = quick_base()
    runs = {s: dataclasses.replace(base, train=dataclasses.replace(base.train, seed=s)) for s in noise_floor.SEEDS}
    first = runs[noise_floor.SEEDS[0]]
    for seed, run in runs.items():
        write_fake(tmp_path / "seeds", "quick", run, start=70 + seed)
        write_fake(tmp_path / "threads", "quick", run, start=70 + seed + (0.5 if seed == 2 else 0.25))
    write_fake(tmp_path / "again", "quick", first, start=70)
    found = noise_floor.table(tmp_path).set_index("varied alone")["distance"]
    assert found["nothing: the same run again"] == 0
    assert found["threads: 1 or 2, same seed, widest pair"] == pytest.approx(0.5)
    assert found["seed"] == pytest.approx(4)
    assert "order of the training images" not in found  # one run alone has no distance
    assert noise_floor.table(tmp_path / "nothing").empty


@pytest.mark.parametrize(
    ("again", "words"), [(72.0, "inside the 4.0 points"), (60.0, "OUTSIDE the 4.0 points")], ids=["near", "far"]
)
def test_a_run_made_again_is_judged_by_what_seeds_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: float, words: str
) -> None:
    monkeypatch.setattr(noise_floor, "repository_root", lambda: tmp_path)
    base, committed, new = quick_base(), tmp_path / "results", tmp_path / "new"
    assert noise_floor.against_committed(base.hash, new) == ""  # nothing to compare
    write_fake(committed, "quick", base, start=70)
    assert noise_floor.against_committed(base.hash, committed) == ""  # the committed record itself
    write_fake(new, "quick", base, start=again)
    said = noise_floor.against_committed(base.hash, new)
    assert f"({again - 70:+.1f})".replace("-", "\N{MINUS SIGN}") in said
    assert said.endswith(").")  # no seeds were recorded to judge by
    for seed in noise_floor.SEEDS:
        run = dataclasses.replace(base, train=dataclasses.replace(base.train, seed=seed))
        write_fake(committed / noise_floor.FOLDER / "seeds", "quick", run, start=70 + seed)
    assert words in noise_floor.against_committed(base.hash, new)

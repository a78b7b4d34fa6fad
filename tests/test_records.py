"""Every committed record: of the schema, named by its own settings, its means those of its parts, and traceable."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from mambaad.config import config_hash, run_config_from_dict
from mambaad.metrics import METRICS

RESULTS = Path(__file__).resolve().parents[1] / "results"
SCHEMA = json.loads((RESULTS / "record.schema.json").read_text(encoding="utf-8"))
RECORDS = sorted(RESULTS.glob("**/runs/*.json"))


def _read(path: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def test_the_schema_is_one_and_there_are_records() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert RECORDS


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_records_are_of_the_schema_and_named_by_their_settings(path: Path) -> None:
    record = _read(path)
    jsonschema.validate(record, SCHEMA)
    assert config_hash(run_config_from_dict(record["config"])) == record["hash"]
    assert path.stem == f"{record['profile']}_{record['hash']}"
    assert record["config"]["train"]["seed"] == record["seed"]
    assert record["environment"]["code"]["dirty"] is False, "made with code that no commit holds"


@pytest.mark.parametrize("path", sorted(RESULTS.glob("benchmarks/*.json")), ids=lambda path: path.stem)
def test_benchmarks_are_of_code_that_a_commit_holds(path: Path) -> None:
    code = _read(path)["environment"]["code"]
    assert code["commit"]
    assert code["dirty"] is False


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_means_are_those_of_their_parts(path: Path) -> None:
    for report in _read(path)["metrics"].values():
        categories: Mapping[str, Mapping[str, float]] = report["categories"]
        for metric in METRICS:
            parts = [values[metric] for values in categories.values()]
            assert report["mean"][metric] == pytest.approx(np.mean(parts))
        assert report["mean"]["mad"] == pytest.approx(np.mean([report["mean"][metric] for metric in METRICS]))


@pytest.mark.parametrize(
    "damage",
    [{"hash": "xyz"}, {"seed": -1}, {"metrics": {"exact": {}}}, {"comment": "by hand"}, {"wall_seconds": 0}],
    ids=lambda damage: next(iter(damage)),
)
def test_a_damaged_record_is_noticed(damage: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**_read(RECORDS[0]), **damage}, SCHEMA)

"""The page on the preset `laptop`: its numbers are those of the records, and every record is of the committed kind."""

import json
from pathlib import Path

import pytest

from mambaad.config import run_config_from_dict
from mambaad.study import own_parts

COMMITTED = sorted((Path(__file__).resolve().parents[2] / "results" / own_parts.FOLDER).glob("*.json"))


def test_the_page_shows_means_over_seeds_of_the_records(tmp_path: Path) -> None:
    assert "No records yet" in own_parts.page(tmp_path)
    for category, seed, mad in (("nut", 0, 50.0), ("nut", 1, 60.0), ("bolt", 0, 70.0)):
        content = {"category": category, "seed": seed, "metrics": {"bank": {"mad": mad, "pixel_aupro": 80.0}}}
        (tmp_path / f"{category}_{seed}.json").write_text(json.dumps(content))
    lines = own_parts.page(tmp_path).splitlines()
    assert lines[2] == "| map | bolt (seeds: 1) | nut (seeds: 2) | mean |"
    assert lines[4] == "| bank | 70.0 / 80.0 | 55.0 / 80.0 | 62.5 / 80.0 |"


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_a_record_is_named_by_its_settings(path: Path) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    assert run_config_from_dict(record["config"]).hash == record["hash"]
    assert path.stem == f"{record['category']}_{record['seed']}"
    assert record["metrics"].keys() == record["readings"].keys()
    assert record["environment"]["code"]["commit"]

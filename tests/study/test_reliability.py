"""The records of scripts/reliability as the book's page shows them."""

import json
from pathlib import Path

from mambaad.study import reliability

ROOT = Path(__file__).resolve().parents[2]


def test_every_kind_of_record_has_its_table() -> None:
    found = reliability.read_records(ROOT / "results" / "reliability")
    tables = {
        "kills": reliability.kills,
        "faults": reliability.faults,
        "fuzz": reliability.inputs,
        "workflow": reliability.workflows,
        "memory": reliability.memory,
        "mutation": reliability.mutations,
        "coverage": reliability.coverage,
    }
    assert found.keys() <= tables.keys()
    for kind, records in found.items():
        assert len(tables[kind](records))
        assert all(record["code"] for record in records), kind
        for record in records:
            assert f"`{record['command']}`" in reliability.made_by([record])
    assert all(record["runs"] == record["runs_equal"] for record in found["kills"])


def test_a_record_that_went_wrong_says_so(tmp_path: Path) -> None:
    together = {"exit_codes": [0, 1], "afterwards": [0], "equal": False}
    workflow = {"kind": "workflow", "command": "c", "code": ["a"], "records": 8, "kills": 3, "passes": 2}
    memory = {
        "kind": "memory",
        "command": "c",
        "code": ["a"],
        "images": 4000,
        "side": 64,
        "resident_mb": [[1000, 100.0], [2000, 150.0], [4000, 250.4]],
        "maps_would_take_mb": 65.5,
    }
    (tmp_path / "workflow.json").write_text(json.dumps(workflow | {"passes_equal": 1, "together": together}))
    (tmp_path / "memory.json").write_text(json.dumps(memory))
    found = reliability.read_records(tmp_path)
    (line,) = reliability.workflows(found["workflow"]).to_dict("records")
    assert (line["passes"], line["records like an undisturbed workflow's"]) == (2, 1)
    assert (line["two at once: exit codes"], line["then the same records"]) == ("0, 1", "no")
    (line,) = reliability.memory(found["memory"]).to_dict("records")
    assert (line["in use after 2,000, MB"], line["in use after 4,000, MB"]) == (150, 250)


def test_what_does_not_count_is_told() -> None:
    whole = {"lines": 10, "lines_reached": 9, "branches": 4, "branches_reached": 3}
    record = {"passed": True, "parts": {"cli": {}, "all": whole | {"lines_left_out": 6}}}
    words = reliability.left_out([record])
    assert words.startswith("Processes that tests start count")
    assert "6 lines of imports for type checkers" in words
    assert words.endswith("nothing else.")
    assert reliability.left_out([record | {"passed": False}]) == f"{words} Not every test passed in this run."
    assert not any("no cover" in path.read_text(encoding="utf-8") for path in (ROOT / "mambaad").rglob("*.py"))
    (line,) = reliability.coverage([{"parts": {"all": whole}}]).to_dict("records")
    assert (line["lines reached, %"], line["branches reached, %"]) == (90.0, 75.0)

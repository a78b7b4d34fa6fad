"""What a run leaves behind: one JSON file that says everything needed to trust or repeat its numbers.

The fields are described in results/README.md.  Records hold no paths: data sets and weights are named and hashed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mambaad.files import write_json

SCHEMA_VERSION = 1
REQUIRED = (
    "schema",
    "profile",
    "hash",
    "config",
    "encoder",
    "data",
    "seed",
    "environment",
    "wall_seconds",
    "train",
    "metrics",
    "efficiency",
)


class RecordError(ValueError):
    """A record file cannot be read or is not a record; the message names the file and what is wrong."""


def write_record(path: str | Path, record: Mapping[str, Any]) -> Path:
    """Write a run record.  Raises RecordError if a required field is missing."""
    _check(record, str(path))
    return write_json(path, record)


def read_record(path: str | Path) -> dict[str, Any]:
    """A run record; undefined metrics come back as NaN.  Raises RecordError for anything but a valid record."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no JSON, or no text
        raise RecordError(f"the record {path} cannot be read ({error}); remove the file and run again") from error
    _check(record, str(path))
    record["metrics"] = _none_to_nan(record["metrics"])
    return record


def _check(record: Any, name: str) -> None:
    if not isinstance(record, Mapping):
        raise RecordError(f"{name} holds a {type(record).__name__}; a run record (a JSON object) was expected")
    missing = [key for key in REQUIRED if key not in record]
    if missing:
        raise RecordError(f"{name} is not a run record: it has no {', '.join(missing)}")
    if record["schema"] != SCHEMA_VERSION:
        raise RecordError(f"{name} has schema version {record['schema']}, this code reads {SCHEMA_VERSION}: run again")


def record_path(results: str | Path, profile: str, run_hash: str) -> Path:
    """Where the record of a run lies."""
    return Path(results) / "runs" / f"{profile}_{run_hash}.json"


def find_record(results: str | Path, run_hash: str) -> dict[str, Any] | None:
    """The record of a run, whatever its profile; None if it was not run yet."""
    found = sorted((Path(results) / "runs").glob(f"*_{run_hash}.json"))
    return read_record(found[0]) if found else None


def _none_to_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _none_to_nan(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_none_to_nan(v) for v in value]
    return math.nan if value is None else value

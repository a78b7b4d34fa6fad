"""What a run leaves behind: one JSON file that says everything needed to trust or repeat its numbers.

The fields are described in results/README.md.  Records hold no paths: data sets and weights are named and hashed.
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from mambaad.ops.routed_scan import describe, pick_backend

SCHEMA_VERSION = 1
PACKAGES = ("mambaad", "torch", "timm", "numpy", "scipy", "pillow", "lightning-fabric", "safetensors")
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


def write_json(path: str | Path, value: Mapping[str, Any]) -> Path:
    """JSON with NaN as null, written beside and moved into place."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(_nan_to_none(value), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)
    return path


def write_record(path: str | Path, record: Mapping[str, Any]) -> Path:
    """Write a run record.  Raises RecordError if a required field is missing."""
    _check(record, str(path))
    return write_json(path, record)


def read_record(path: str | Path) -> dict[str, Any]:
    """A run record; undefined metrics come back as NaN.  Raises RecordError for anything but a valid record."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
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


def environment(device: str = "cpu") -> dict[str, Any]:
    """Code version, packages, device, threads of this process, and the scan backend that "auto" takes on the device."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            packages[name] = "not installed"
    return {
        "code": code_version(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": packages,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "scan_backend": describe(pick_backend(device)),
    }


def code_version() -> dict[str, Any]:
    """Git commit of the checkout this package runs from, and whether tracked files differ from it."""
    root = Path(__file__).resolve().parents[1]

    def git(*args: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(root), *args], capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    top = git("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root:  # an installed package inside somebody else's repository
        return {"commit": None, "dirty": None}
    # results and build products change while a study runs; what counts is the code
    status = git("status", "--porcelain", "--untracked-files=no", "--", "mambaad", "notebooks", "Snakefile")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}


def device_name(device: str) -> str:
    """The device in words: the card, or the processor and the number of cores."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(torch.device(device))
    if device != "cpu":
        return device
    model = platform.processor() or platform.machine()
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    return f"CPU {model}, {os.cpu_count()} cores"


def _nan_to_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _nan_to_none(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_nan_to_none(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):
            return None
        raise RecordError(f"a record cannot hold {value}")
    return value


def _none_to_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _none_to_nan(v) for key, v in value.items()}
    return math.nan if value is None else value

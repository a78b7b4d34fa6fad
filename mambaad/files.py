"""Writing files so that a reader never meets half of one: beside the target first, then moved into place."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_json(path: str | Path, value: Mapping[str, Any]) -> Path:
    """JSON with NaN as null, written beside and moved into place."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(_nan_to_none(value), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)
    return path


def _nan_to_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _nan_to_none(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_nan_to_none(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):
            return None
        raise ValueError(f"JSON cannot hold {value}")
    return value

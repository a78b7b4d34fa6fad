"""The published implementation's outputs in tests/reference, and how its parameters are filled."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

REFERENCE = Path(__file__).parent / "reference"


def cases() -> dict[str, dict[str, Any]]:
    return {case["name"]: case for case in json.loads((REFERENCE / "cases.json").read_text())}


def filled_state_dict(keys: Path, scan_tables: dict[int, Tensor]) -> dict[str, Tensor]:
    """Every parameter drawn from its key's name; `scan_tables` maps a token count to the visiting order."""
    state = {}
    for key, (shape, _) in json.loads(keys.read_text()).items():
        if "scans.index_flat" in key:
            order = scan_tables[shape[-1]]
            state[key] = (order.argsort() if key.endswith("_inv") else order).view(shape)
        else:
            state[key] = filled_tensor(key, tuple(shape))
    return state


def filled_tensor(key: str, s: tuple[int, ...]) -> Tensor:
    """A parameter drawn from its published key."""
    name = key.rsplit(".", 1)[-1]
    if name == "num_batches_tracked":
        return torch.tensor(0)
    n = np.random.RandomState(zlib.crc32(key.encode()) & 0x7FFFFFFF).standard_normal(s).astype(np.float32)
    v: NDArray[Any]
    if name == "running_var":
        v = 1 + 0.1 * np.abs(n)
    elif name == "running_mean":
        v = 0.1 * n
    elif name == "A_logs":
        v = np.log(np.arange(1, s[-1] + 1)) + 0.1 * n
    elif name == "Ds":
        v = 1 + 0.1 * n
    elif name == "dt_projs_bias":
        v = -4 + 0.5 * n
    elif name == "bias":
        v = 0.1 * n
    elif name in ("x_proj_weight", "dt_projs_weight"):
        v = n / np.sqrt(s[-1])
    elif len(s) == 1:
        v = 1 + 0.1 * n
    else:
        v = n / np.sqrt(np.prod(s[1:]))
    return torch.from_numpy(np.asarray(v, dtype=np.float32))


def input_image(seed: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal((1, 3, 256, 256)).astype(np.float32))

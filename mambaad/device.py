"""What everything runs on: the device by name, real or without memory, or a tracer."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


def resolve_device(device: str) -> torch.device:
    """ "auto" or a torch device name -> the device.  Raises ValueError, with the remedy, for one that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?|mps(:0)?", device):
        raise ValueError(f"device must be 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps', got {device!r}")
    target = torch.device(device)
    if target.type == "cuda" and (target.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"there is no device {device!r}: torch sees {torch.cuda.device_count()} CUDA devices; use 'cpu'"
        )
    if target.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("torch sees no 'mps' device on this machine; use 'cpu'")
    return target


@contextmanager
def without_memory() -> Iterator[None]:
    """Tensors and networks made inside have shapes and no memory (torch's device "meta")."""
    import timm  # noqa: F401  before, and not inside: what it imports of torch 2.6 computes with tensors meanwhile

    with torch.device("meta"):
        yield


def is_exporting() -> bool:
    """Whether the code that asks is being traced by torch.export.  Never with torch 2.6, which cannot say."""
    ask = getattr(torch.compiler, "is_exporting", None)
    return ask is not None and bool(ask())


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

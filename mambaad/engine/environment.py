"""What a run ran on: code version, packages, device, threads, and the backend of the scan."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from mambaad.device import device_name
from mambaad.ops.routed_scan import describe, pick_backend

PACKAGES = ("mambaad", "torch", "timm", "numpy", "scipy", "pillow", "lightning-fabric", "safetensors")

CODE = ("mambaad", "notebooks", "scripts", "Snakefile", "evidence.smk", "pyproject.toml", "requirements.lock")
"""What a result can depend on beside its data."""


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
    """Git commit of the checkout this package runs from, and whether its code differs: files changed or added."""
    root = Path(__file__).resolve().parents[2]

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
    status = git("status", "--porcelain", "--untracked-files=all", "--", *CODE)
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}

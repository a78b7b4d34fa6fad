"""What this machine has: device, scan backends, versions, caches.  `mambaad doctor` prints it."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from mambaad.device import resolve_device
from mambaad.engine.environment import environment
from mambaad.model.encoder_weights import EMBEDDED_WEIGHTS, weights_cached
from mambaad.ops.routed_scan import backends, describe, pick_backend, unavailable
from mambaad.study.profiles import BACKBONES


def diagnose() -> dict[str, Any]:
    """Facts about this machine, by topic."""
    device = resolve_device("auto")
    facts = environment(str(device))
    optional = {
        name: "installed" if find_spec(name) else "not installed (not needed)"
        for name in ("mamba_ssm", "causal_conv1d")
    }
    return {
        "python": facts["python"],
        "platform": facts["platform"],
        "packages": facts["packages"],
        "optional packages": optional,
        "device picked by 'auto'": f"{device} ({facts['device']})",
        "CUDA": f"built for {torch.version.cuda}, {torch.cuda.device_count()} devices"
        if torch.version.cuda
        else "not built in",
        "CPU threads": f"{facts['threads']} of {os.cpu_count()} cores",
        "scan backends": scan_backends(str(device)),
        "encoder weights": {
            "embedded": "present" if EMBEDDED_WEIGHTS.is_file() else "missing: reinstall the package",
            **{
                tag: "cached" if weights_cached(tag) else "not cached (downloaded at first use)"
                for _, tag in BACKBONES.values()
            },
        },
        "Hugging Face cache": _cache(),
        "code": facts["code"],
    }


def scan_backends(device: str) -> dict[str, str]:
    """Each backend of the scan: taken by "auto" on the device, available, or why not and what to do about it."""
    picked, found = pick_backend(device), {}
    for name in backends():
        reason = unavailable(name)
        found[name] = f"not available: {reason}" if reason else "available"
        if name == picked:
            found[name] = f"picked by 'auto': {describe(name)}"
    if picked == "chunked":
        found["chunked"] += ", several times slower than the fused backend that this device could have"
    return found


def _cache() -> str:
    from huggingface_hub.constants import HF_HUB_CACHE

    return f"{HF_HUB_CACHE} ({'exists' if Path(HF_HUB_CACHE).is_dir() else 'empty'})"


def report(facts: dict[str, Any]) -> str:
    """The facts as text, one per line."""
    lines = []
    for topic, value in facts.items():
        if isinstance(value, dict):
            lines.append(f"{topic}:")
            lines += [f"  {name}: {v}" for name, v in value.items()]
        else:
            lines.append(f"{topic}: {value}")
    return "\n".join(lines)

"""What a run's training leaves behind, whichever way the method learns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mambaad.baselines.method import Method

CHECKPOINT = "checkpoint.pth"
"""Name of the file with the trained weights in a run's folder."""


@dataclass(frozen=True)
class TrainResult:
    model: Method
    loss: list[tuple[int, float]]
    """(last step, mean loss) of consecutive stretches of steps; steps count from 1."""
    steps: int
    seconds: float
    """Time spent in optimiser steps, over all resumed parts."""
    device: str
    is_main: bool = True
    """False in all but the first of several training processes."""
    execution: dict[str, Any] = field(default_factory=dict)
    """How the run was carried out where that does not belong to its settings; no paths."""

"""The metrics of a network while it learns: how far its last step is from its best one on the test images.

A curve is something to look at after the run. No step of a run is chosen by it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch

from mambaad.baselines import Method, method_class
from mambaad.config import RunConfig, method_of
from mambaad.data import Sample
from mambaad.engine.evaluate import evaluate_run
from mambaad.engine.execution import Execution
from mambaad.files import write_json

CURVE = "curve.json"


class Curve:
    """Measures a method every so many steps of its training.

    The points are kept in `<folder>/curve.json`, so that a continued run has those of its earlier part. Random
    numbers, BatchNorm and weights are as if nothing had been measured.

    Args:
        every: steps between two points; the last step is a point, too.

    Raises:
        ValueError: less than one step between two points; a method that cannot predict before its last step.
    """

    def __init__(
        self, folder: Path, run: RunConfig, samples: Sequence[Sample], every: int, execution: Execution
    ) -> None:
        if every < 1:
            raise ValueError(f"a curve needs at least one step between two points, got {every}")
        if hasattr(method_class(method_of(run.model)), "finish"):
            raise ValueError(f"{method_of(run.model)} can predict only after its last step: there is no curve")
        self.path, self.run, self.samples, self.execution = folder / CURVE, run, samples, execution
        self.every = every
        self.points: list[dict[str, Any]] = []
        if self.path.is_file():
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            if kept["hash"] == run.hash and kept["every"] == every:
                self.points = kept["points"]

    def __call__(self, method: Method, step: int, is_last: bool) -> None:
        """Measure the method after a step, if it is one of the curve's."""
        if step % self.every and not is_last:
            return
        model = cast(Any, method)
        model.eval()
        with torch.random.fork_rng():
            found = evaluate_run(method, self.run, self.samples, self.execution)
        model.train()
        if not found:  # not the first of several processes
            return
        self._add(step, found)

    def end(self, step: int, found: dict[str, Any]) -> None:
        """Take the metrics of the last step, which a run whose training is over does not come to again."""
        if not self.points or self.points[-1]["step"] < step:
            self._add(step, found)

    def _add(self, step: int, found: dict[str, Any]) -> None:
        point = {"step": step} | {protocol: metrics["mean"] for protocol, metrics in found.items()}
        self.points = [kept for kept in self.points if kept["step"] < step] + [point]
        write_json(self.path, {"hash": self.run.hash, "every": self.every, "points": self.points})

    def facts(self) -> dict[str, Any]:
        """The field of the record."""
        return {"curve": {"every": self.every, "points": self.points}}

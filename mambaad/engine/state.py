"""An interrupted run's state: what continuing it to the same weights needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from mambaad.baselines import Method
from mambaad.config import RunConfig
from mambaad.engine.processes import gather
from mambaad.model import save_checkpoint
from mambaad.model.checkpoint import read_checkpoint


class TrainingState:
    """Where training stands: what a continued run needs beside the code and the data."""

    def __init__(self, run: RunConfig, images: str = "") -> None:
        self.run_hash = run.hash
        self.images = images
        """Hash of the training images' names and sizes: a run need not name its images."""
        self.losses: list[float] = []
        self.held_losses: list[float] = []
        self.seconds = 0.0
        self.rng = rng_states()

    @property
    def step(self) -> int:
        return len(self.losses)

    def advance(self, loss: float) -> None:
        """One step is done: an interruption in the middle of the next one must not shift its random numbers."""
        self.losses.append(loss)
        self.rng = rng_states()

    def save(
        self, path: Path, model: Method, optimizers: Sequence[torch.optim.Optimizer], seconds: float, fabric: Fabric
    ) -> None:
        """Write the state, by the first process; all have to call it, as each has random numbers of its own."""
        rng = {name: gather(fabric, value) for name, value in self.rng.items()}
        if not fabric.is_global_zero:
            return
        extra: dict[str, Any] = {
            "run_hash": self.run_hash,
            "images": self.images,
            "losses": self.losses,
            "held_losses": self.held_losses,
            "seconds": self.seconds + seconds,
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            "rng": rng,
            "processes": fabric.world_size,
        }
        save_checkpoint(path, model, extra)

    def load(self, path: Path, model: Method, optimizers: Sequence[torch.optim.Optimizer], fabric: Fabric) -> None:
        """Continue from a state: every process with its own random numbers.

        Raises ValueError for the state of another run, of other images, or of another number of processes, which shared
        the batches among themselves otherwise.
        """
        content = read_checkpoint(path)
        if content.get("run_hash") != self.run_hash:
            raise ValueError(
                f"{path} belongs to the run {content.get('run_hash')}, not to {self.run_hash}: "
                "remove it or choose another output folder"
            )
        if content.get("images", self.images) != self.images:
            raise ValueError(
                f"{path} comes from a training on other images: remove it to train from the first step, or choose "
                "another output folder"
            )
        if "optimizers" not in content or "processes" not in content:
            raise ValueError(
                f"{path} was saved by an earlier version of this library, which kept less: remove it to train from the "
                "first step"
            )
        processes = content["processes"]
        if processes != fabric.world_size:
            raise ValueError(
                f"{path} was saved by {processes} training processes, and this run has {fabric.world_size}: "
                f"go on with --processes {processes}, or remove the file to train from the first step"
            )
        model.load_state_dict(content["state_dict"])
        for optimizer, stored in zip(optimizers, content["optimizers"], strict=True):
            optimizer.load_state_dict(stored)
        self.losses, self.seconds = list(content["losses"]), float(content["seconds"])
        self.held_losses = list(content.get("held_losses", ()))
        self.rng = {name: states[fabric.global_rank] for name, states in content["rng"].items()}
        torch.set_rng_state(self.rng["cpu"])
        if "cuda" in self.rng and torch.cuda.is_available():
            torch.cuda.set_rng_state(self.rng["cuda"])
        if "mps" in self.rng and torch.backends.mps.is_available():
            torch.mps.set_rng_state(self.rng["mps"])


def rng_states() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    return states

"""Every method of table 6 and the memory bank side by side: latency, throughput, memory, a training step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from mambaad.baselines import build_method
from mambaad.baselines.method import FittedMethod
from mambaad.benchmarks.model import peak_memory
from mambaad.benchmarks.timing import interleaved
from mambaad.config import (
    METHODS,
    OWN_METHODS,
    MemoryBankConfig,
    MethodConfig,
    ModelConfig,
    TrainConfig,
    for_encoder,
    small_form,
)

BATCH = 8
LAST = 1 - 1e-6  # progress of a step in the last phase of a training


def methods_benchmark(
    repeats: int = 3,
    device: str = "cpu",
    side: int = 256,
    batch: int = BATCH,
    configs: Mapping[str, ModelConfig | MethodConfig] | None = None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Time each method's prediction of one image and of a batch, and a training step of a batch, float32.

    Published encoders and sizes, but for DiAD, which is reduced; random weights, since times do not depend on them; the
    memory bank is full.  The step is forward, loss, backward and optimisers.  A training in two phases counts with the
    shares that its phases have.

    Args:
        configs: other settings of the methods, smaller for a trial.

    Returns: rows (method, form, encoder, times, images per second, highest memory of building the network and
        predicting one image, seconds per training step, each beside MambaAD's), facts.
    """
    configs = configs or {name: _published(name, side) for name in METHODS if name not in OWN_METHODS}
    one, many = (torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(0)) for n in (1, batch))
    one, many = one.to(device), many.to(device)
    models: dict[str, Any] = {}

    def built(name: str, config: ModelConfig | MethodConfig) -> None:
        model: Any = build_method(config, "random").to(device)
        if isinstance(config, MemoryBankConfig):
            model.entries = torch.randn(config.entries, len(model.mean), device=device)
        models[name] = model
        model.predict(one)

    memory: dict[str, float | str] = {}
    for name, config in configs.items():
        built(name, config)  # what is loaded once for all methods is no method's memory
        del models[name]
        memory[name] = peak_memory(partial(built, name, config), device)
    calls: dict[tuple[str, str], Callable[[], Any]] = {}
    for name, model in models.items():
        calls[name, "latency"] = partial(model.predict, one)
        calls[name, "throughput"] = partial(model.predict, many)
        if not isinstance(model, FittedMethod):
            optimizers = model.optimizers(TrainConfig(lr=1e-6))
            calls[name, "last phase"] = _step(model, optimizers, many, LAST)
            if first_phase(model.config):
                calls[name, "first phase"] = _step(model, optimizers, many, 0.0)
    times = interleaved(calls, repeats, device)
    rows = []
    for name, config in configs.items():
        latency = times[name, "latency"]
        row: dict[str, Any] = {
            "method": name,
            "form": "reduced" if name == "diad" else "published",
            "encoder": config.backbone,
            "side": side,
            "params_m": sum(p.numel() for p in models[name].parameters()) / 1e6,
            **{f"latency_{key}": value for key, value in latency.items()},
            "images_per_s": 1e3 * batch / times[name, "throughput"]["median_ms"],
            "peak_mb": memory[name],
            "step_s": "",
        }
        if (name, "last phase") in times:
            share = first_phase(config)
            row["step_s"] = (1 - share) * times[name, "last phase"]["median_ms"] / 1e3
            if share:
                row["step_s"] += share * times[name, "first phase"]["median_ms"] / 1e3
        rows.append(row)
    _beside_mambaad(rows)
    return rows, {"repeats": repeats, "precision": "float32", "batch": batch}


def first_phase(config: Any) -> float:
    """Share of the steps that the first of two phases takes; 0 for a training in one."""
    return float(getattr(config, "student_share", getattr(config, "autoencoder_share", 0.0)))


def _published(name: str, side: int) -> ModelConfig | MethodConfig:
    return ModelConfig() if name == "mambaad" else for_encoder(name, small_form(name, side)[0], side)


def _step(
    model: Any, optimizers: list[torch.optim.Optimizer], images: torch.Tensor, progress: float
) -> Callable[[], None]:
    def step() -> None:
        model.train()
        model.loss(images, progress).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return step


def _beside_mambaad(rows: list[dict[str, Any]]) -> None:
    """Add how many times as much as MambaAD each method takes."""
    reference = next(row for row in rows if row["method"] == "mambaad")
    for row in rows:
        row["latency_ratio"] = row["latency_median_ms"] / reference["latency_median_ms"]
        row["throughput_ratio"] = row["images_per_s"] / reference["images_per_s"]
        known = row["step_s"] != "" and reference["step_s"] != ""
        row["step_ratio"] = row["step_s"] / reference["step_s"] if known else ""

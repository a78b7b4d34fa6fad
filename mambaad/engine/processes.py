"""Several training processes: how they start, and what they share in each step."""

from __future__ import annotations

import os
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor


def launch(target: torch.device, processes: int, precision: Any, phases: bool = False) -> Fabric:
    """Start the processes; all but the first run the program from its beginning up to here.

    Args:
        phases: in every step, some parameters have no gradient, and no process may wait for it.

    Raises:
        ValueError: a launcher, such as torchrun, or an earlier training of this program started another number of
            processes than the run has: each would train by itself, or with those it starts, into the same folder; one
            device for several processes.
    """
    if target.index is not None and processes > 1:
        raise ValueError(f"{processes} processes have a device each: name '{target.type}' alone, not '{target}'")
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started not in (1, processes) and torch.distributed.is_initialized():
        raise ValueError(
            f"this program has trained with {started} processes, which go on: train with {processes} in a new one"
        )
    if started not in (1, processes):
        raise ValueError(
            f"a launcher started {started} processes (WORLD_SIZE), and the run has {processes}: say --processes "
            f"{started} as well, or start one process without the launcher"
        )
    if processes == 1:
        device = [target.index or 0] if target.type == "cuda" else 1
        fabric = Fabric(accelerator=target.type, devices=device, precision=precision)
    else:
        strategy = "ddp_find_unused_parameters_true" if phases else "ddp"
        fabric = Fabric(accelerator=target.type, devices=processes, strategy=strategy, precision=precision)
    fabric.launch()
    return fabric


def mean(fabric: Fabric, loss: Tensor) -> float:
    """Mean of a loss over the processes."""
    value: Any = fabric.all_reduce(loss, reduce_op="mean") if fabric.world_size > 1 else loss
    return float(value)


def largest(fabric: Fabric, number: int) -> int:
    """The largest of the processes' numbers: a signal that reached one of them is known to all."""
    if fabric.world_size == 1:
        return number
    shared: Any = fabric.all_reduce(torch.tensor(number, device=fabric.device), reduce_op="max")
    return int(shared)


def gather(fabric: Fabric, value: Tensor) -> list[Tensor]:
    """The processes' tensors of one shape, on the CPU, in the order of their ranks."""
    if fabric.world_size == 1:
        return [value]
    own = value.to(fabric.device)
    found = [torch.empty_like(own) for _ in range(fabric.world_size)]
    torch.distributed.all_gather(found, own)
    return [tensor.cpu() for tensor in found]


def place(processes: int) -> tuple[int, int]:
    """Rank and number of the processes that work together, where a run of so many has been launched; else (0, 1)."""
    if processes > 1 and torch.distributed.is_initialized() and torch.distributed.get_world_size() == processes:
        return torch.distributed.get_rank(), processes
    return 0, 1


def gather_rows(rows: Tensor, most: int) -> list[Tensor]:
    """The rows of every process, in the order of their ranks, on the CPU.

    Args:
        rows: (n, ...), as many as a process has, n <= most, on a device of the processes' backend.
    """
    size = torch.distributed.get_world_size()
    count = torch.tensor([len(rows)], device=rows.device)
    padded = torch.cat([rows, rows.new_zeros(most - len(rows), *rows.shape[1:])])
    counts = [torch.empty_like(count) for _ in range(size)]
    found = [torch.empty_like(padded) for _ in range(size)]
    torch.distributed.all_gather(counts, count)
    torch.distributed.all_gather(found, padded)
    return [part[: int(number)].cpu() for part, number in zip(found, counts, strict=True)]


def is_first() -> bool:
    """Whether this is the first process of a run, or its only one; known before they are launched."""
    return not any(int(os.environ.get(name) or 0) for name in ("RANK", "LOCAL_RANK"))

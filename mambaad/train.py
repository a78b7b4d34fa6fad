"""Training of one run.  Paper: section 4.1; the published optimiser's groups and schedule.

The encoder is frozen; fusion and decoder learn to reconstruct its features of good images.
A run is repeatable: the order of the images follows from the seed and the epoch, and an interrupted run
continues from its last checkpoint with the same random numbers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from mambaad.config import RunConfig, TrainConfig, to_dict
from mambaad.data import DatasetError, ImageSet, Sample, load_dataset
from mambaad.model import MambaAD, check_side, reconstruction_loss, save_checkpoint
from mambaad.model.checkpoint import read_checkpoint

CACHE_BYTES = 2 * 1024**3  # decoded training images are kept in memory up to this size
LOSS_POINTS = 500  # at most this many points of the loss curve are recorded
TRAINING_STATE = "training_state.pt"
CHECKPOINT = "checkpoint.pth"


@dataclass(frozen=True)
class TrainResult:
    model: MambaAD
    loss: list[tuple[int, float]]
    """(last step, mean loss) of consecutive stretches of steps; steps count from 1."""
    steps: int
    seconds: float
    """Time spent in optimiser steps, over all resumed parts."""
    device: str
    is_main: bool = True
    """False in all but the first of several training processes."""


def train_run(
    run: RunConfig,
    *,
    data_root: str | Path,
    encoder_file: str | Path | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    workers: int = 0,
    processes: int = 1,
    checkpoint_every: int | None = None,
    progress: bool = True,
) -> TrainResult:
    """Train one run on the good training images below `data_root`.

    Args:
        encoder_file: the file behind `run.encoder_weights` when that names local weights.
        out: folder for checkpoint.pth (at the end) and training_state.pt (at intervals and when interrupted; a later
            call with the same run continues from it). None: nothing is written.
        device: "auto" (CUDA if there is one, else the CPU), "cpu", "cuda", "cuda:1", "mps".
        threads: CPU threads of torch; None leaves them as they are.
        workers: processes that decode images.
        processes: training processes, one per card (or CPU process), which share each batch; the program is started
            again for all but the first. BatchNorm sees each process's share alone.
        checkpoint_every: steps between writes of the training state; None: a tenth of the run.

    Raises:
        DatasetError: no training images, or fewer than one batch.
        EncoderWeightsError: see `mambaad.model.Encoder`.
        FloatingPointError: the loss became infinite or NaN; the last training state is kept.
        ValueError: a device that is not there, a training state of another run, a batch that does not split evenly.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    check_side(run.model, run.data.side, run.data.side)
    target = resolve_device(device)
    if run.train.batch_size % processes:
        raise ValueError(f"a batch of {run.train.batch_size} images does not split among {processes} processes evenly")
    fabric = _fabric(target, processes, run.train.precision)
    torch.manual_seed(run.train.seed)
    model = MambaAD(run.model, weights=encoder_file or run.encoder_weights)
    if processes > 1:  # the same weights everywhere, but not the same stochastic depth
        torch.manual_seed(run.train.seed + fabric.global_rank)
    images = _training_images(run, data_root)
    steps = total_steps(run.train, len(images))
    optimizer = torch.optim.AdamW(
        parameter_groups(model, run.train.weight_decay), lr=run.train.lr, betas=run.train.betas
    )
    wrapped, wrapped_optimizer = fabric.setup(model, optimizer)

    state_file = None if out is None else Path(out) / TRAINING_STATE
    state = _State(run)
    if state_file is not None and state_file.is_file():
        state.load(state_file, model, optimizer)
    loader = DataLoader(
        images,
        batch_sampler=[
            batch[fabric.global_rank :: processes]
            for batch in list(_batches(len(images), run.train, steps))[state.step :]
        ],
        num_workers=workers,
        generator=torch.Generator(),  # or the loader draws from the global one, and a continued run differs
        pin_memory=target.type == "cuda",
    )
    every = checkpoint_every or max(1, steps // 10)
    wrapped.train()
    started = time.perf_counter()
    bar = tqdm(
        total=steps, initial=state.step, desc="train", unit="step", disable=not (progress and fabric.is_global_zero)
    )
    try:
        for batch, _, _ in loader:
            for group in optimizer.param_groups:
                group["lr"] = run.train.lr * lr_factor(state.step, steps, run.train)
            loss = reconstruction_loss(*wrapped(batch.to(fabric.device, non_blocking=True)))
            fabric.backward(loss)
            fabric.clip_gradients(wrapped, optimizer, max_norm=run.train.clip_norm, error_if_nonfinite=False)
            value = _mean(fabric, loss.detach())
            if value != value or value in (float("inf"), float("-inf")):
                raise FloatingPointError(
                    f"the loss is {value} at step {state.step + 1}: lower the learning rate ({run.train.lr}) "
                    f"or the gradient clip ({run.train.clip_norm})"
                )
            wrapped_optimizer.step()
            wrapped_optimizer.zero_grad(set_to_none=True)
            state.advance(value)
            bar.update()
            bar.set_postfix(loss=f"{value:.3f}")
            if state_file is not None and fabric.is_global_zero and state.step % every == 0 and state.step < steps:
                state.save(state_file, model, optimizer, time.perf_counter() - started)
    except KeyboardInterrupt:
        if state_file is not None and fabric.is_global_zero:
            state.save(state_file, model, optimizer, time.perf_counter() - started)
        raise
    finally:
        bar.close()
    seconds = state.seconds + time.perf_counter() - started
    model.eval()
    if out is not None and fabric.is_global_zero:
        save_checkpoint(Path(out) / CHECKPOINT, model, {"run": to_dict(run)})
        assert state_file is not None
        state_file.unlink(missing_ok=True)
    return TrainResult(model, thin(state.losses), steps, seconds, str(fabric.device), fabric.is_global_zero)


def _fabric(target: torch.device, processes: int, precision: Any) -> Fabric:
    if processes == 1:
        device = [target.index or 0] if target.type == "cuda" else 1
        fabric = Fabric(accelerator=target.type, devices=device, precision=precision)
    else:
        fabric = Fabric(accelerator=target.type, devices=processes, strategy="ddp", precision=precision)
    fabric.launch()
    return fabric


def _mean(fabric: Fabric, loss: Tensor) -> float:
    """Mean of a loss over the processes."""
    mean: Any = fabric.all_reduce(loss, reduce_op="mean") if fabric.world_size > 1 else loss
    return float(mean)


class _State:
    """Where training stands: what a continued run needs beside the code and the data."""

    def __init__(self, run: RunConfig) -> None:
        self.run_hash = run.hash
        self.losses: list[float] = []
        self.seconds = 0.0
        self.rng = _rng_states()

    @property
    def step(self) -> int:
        return len(self.losses)

    def advance(self, loss: float) -> None:
        """One step is done: an interruption in the middle of the next one must not shift its random numbers."""
        self.losses.append(loss)
        self.rng = _rng_states()

    def save(self, path: Path, model: MambaAD, optimizer: torch.optim.Optimizer, seconds: float) -> None:
        extra: dict[str, Any] = {
            "run_hash": self.run_hash,
            "losses": self.losses,
            "seconds": self.seconds + seconds,
            "optimizer": optimizer.state_dict(),
            "rng": self.rng,
        }
        save_checkpoint(path, model, extra)

    def load(self, path: Path, model: MambaAD, optimizer: torch.optim.Optimizer) -> None:
        content = read_checkpoint(path)
        if content.get("run_hash") != self.run_hash:
            raise ValueError(
                f"{path} belongs to the run {content.get('run_hash')}, not to {self.run_hash}: "
                "remove it or choose another output folder"
            )
        model.load_state_dict(content["state_dict"])
        optimizer.load_state_dict(content["optimizer"])
        self.losses, self.seconds = list(content["losses"]), float(content["seconds"])
        self.rng = content["rng"]
        torch.set_rng_state(self.rng["cpu"])
        if "cuda" in self.rng and torch.cuda.is_available():
            torch.cuda.set_rng_state(self.rng["cuda"])


def _rng_states() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    return states | {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else states


def resolve_device(device: str) -> torch.device:
    """ "auto" or a torch device name -> the device.  Raises ValueError, with the remedy, for one that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device must be 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps', got {device!r}") from error
    if target.type == "cuda" and (target.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"there is no device {device!r}: torch sees {torch.cuda.device_count()} CUDA devices; use 'cpu'"
        )
    if target.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("torch sees no 'mps' device on this machine; use 'cpu'")
    return target


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters with and without weight decay, as the published optimiser splits them.

    Exempt: 1-d tensors, names ending in ".bias", and the scan's D (1-d in the published code).  A_log and the bias of
    the step size are decayed there, unlike in Mamba's own convention.
    """
    decayed: list[nn.Parameter] = []
    exempt: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            free = parameter.ndim <= 1 or name.endswith((".bias", ".D"))
            (exempt if free else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": exempt, "weight_decay": 0.0}]


def lr_factor(step: int, steps: int, config: TrainConfig) -> float:
    """Learning rate of a step (from 0) relative to the peak: linear warm-up, then one drop by `decay`."""
    warmup = min(1.0, (step + 1) / (config.warmup_steps + 1))
    return warmup * (config.decay if step >= config.decay_at * steps else 1.0)


def total_steps(config: TrainConfig, images: int) -> int:
    """Optimiser steps of a run; incomplete last batches are dropped.  Raises DatasetError for less than one batch."""
    per_epoch = images // config.batch_size
    if per_epoch == 0:
        raise DatasetError(
            f"{images} training images are fewer than one batch of {config.batch_size}: lower batch_size"
        )
    return config.steps or config.epochs * per_epoch


def _batches(images: int, config: TrainConfig, steps: int) -> Iterator[list[int]]:
    """Image indices of every step of the run."""
    per_epoch = images // config.batch_size
    for step in range(steps):
        epoch, position = divmod(step, per_epoch)
        if position == 0:
            order = torch.randperm(images, generator=torch.Generator().manual_seed(config.seed + epoch))
        yield order[position * config.batch_size : (position + 1) * config.batch_size].tolist()


def _training_images(run: RunConfig, data_root: str | Path) -> ImageSet:
    samples: list[Sample] = load_dataset(run.data.dataset, data_root, run.data.categories)
    good = [sample for sample in samples if sample.split == "train"]
    cache = len(good) * run.data.side**2 * 3 <= CACHE_BYTES
    return ImageSet(good, run.data.side, run.model.mean, run.model.std, cache=cache)


def thin(losses: list[float], points: int = LOSS_POINTS) -> list[tuple[int, float]]:
    """(last step, mean loss) of at most `points` consecutive stretches of equal length."""
    stretch = -(-len(losses) // points) or 1
    values = Tensor(losses).split(stretch) if losses else ()
    return [(min((i + 1) * stretch, len(losses)), v.mean().item()) for i, v in enumerate(values)]

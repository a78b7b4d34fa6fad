"""Training of one run.  Paper: section 4.1; the published optimiser's groups and schedule.

The encoder is frozen; fusion and decoder learn to reconstruct its features of good images.
A run is repeatable: the order of the images follows from the seed and the epoch, and an interrupted run
continues from its last checkpoint with the same random numbers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mambaad.baselines import Method, build_method, keeps_features, method_class, start_from_stable_diffusion
from mambaad.baselines.method import FeatureMethod, FinishedMethod, FittedMethod, TexturedMethod, TrainedMethod
from mambaad.config import RunConfig, method_of, to_dict
from mambaad.data import Sample
from mambaad.data.holdout import hold_out
from mambaad.data.image_set import ImageSet
from mambaad.data.sample import names_hash
from mambaad.device import resolve_device
from mambaad.engine.execution import Execution, check_compiler, check_run, pinned_threads
from mambaad.engine.feature_cache import as_features, cache_features
from mambaad.engine.fit import check_held, finish, fit
from mambaad.engine.held_out import check_every, held_out_loss, last_step
from mambaad.engine.interrupt import stop_between_steps
from mambaad.engine.optim import batches, lr_factor, total_steps
from mambaad.engine.processes import largest, launch, mean
from mambaad.engine.result import CHECKPOINT, TrainResult
from mambaad.engine.shared_norm import share_batch_statistics
from mambaad.engine.state import TrainingState
from mambaad.model import MambaAD, check_side, reconstruction_loss, save_checkpoint
from mambaad.progress import progress

CACHE_BYTES = 2 * 1024**3  # decoded training images are kept in memory up to this size
SAVE_SECONDS = 300  # the training state is saved at least this often
LOSS_POINTS = 500  # at most this many points of the loss curve are recorded
TRAINING_STATE = "training_state.pt"
Watch = Callable[[Method, int, bool], None]


def train_run(
    run: RunConfig,
    samples: Sequence[Sample],
    *,
    encoder_file: str | Path | None = None,
    diffusion_file: str | Path | None = None,
    out: str | Path | None = None,
    checkpoint_every: int | None = None,
    keep_state: bool = False,
    execution: Execution | None = None,
    facts: Mapping[str, Any] | None = None,
    watch: Watch | None = None,
) -> TrainResult:
    """Train one run on those of its data set's samples that are for training.

    Args:
        samples: the data set, `mambaad.data.load_dataset(run.data.dataset, root, run.data.categories)`.
        encoder_file: the file behind `run.encoder_weights` when that names local weights.
        diffusion_file: the file behind `run.model.diffusion_weights`, where DiAD starts from one.
        out: folder for checkpoint.pth (at the end) and training_state.pt (at intervals and when interrupted; a later
            call with the same run continues from it). None: nothing is written.
        checkpoint_every: steps between writes of the training state; None: a tenth of the run. It is written every
            five minutes besides, and after the step in which Ctrl-C or SIGTERM arrives.
        keep_state: keep the training state after the last step, so that a later call with the same run trains nothing;
            for who removes it once the results are safe.
        execution: device, threads, caches and the like; None: the defaults of `Execution`.
        facts: plain values to be kept in checkpoint.pth.
        watch: called after each step with the method, the number of steps done, and whether this was the last one;
            must leave the method in training. Its time is not counted.

    Raises:
        CacheError: no room for images or features, or a folder that cannot be written.
        CheckpointError: Stable Diffusion's weights are missing or do not fit.
        DatasetError: no training images, or fewer than one batch; not the textures that the run names.
        EncoderWeightsError: see `mambaad.model.Encoder`.
        FloatingPointError: the loss became infinite or NaN; the last training state is kept.
        ValueError: a device that is not there, a training state of another run, other images or number of processes, a
            batch that does not split evenly, no compiler for `compile`, features kept for a method that needs images,
            patience for one that trains in phases, an encoder file other than the run's.
    """
    execution = execution or Execution()
    with pinned_threads(execution.threads):
        return _train(
            run, samples, encoder_file, diffusion_file, out, checkpoint_every, keep_state, execution, facts or {}, watch
        )


def _train(
    run: RunConfig,
    samples: Sequence[Sample],
    encoder_file: str | Path | None,
    diffusion_file: str | Path | None,
    out: str | Path | None,
    checkpoint_every: int | None,
    keep_state: bool,
    execution: Execution,
    facts: Mapping[str, Any],
    watch: Watch | None,
) -> TrainResult:
    check_side(run.model, run.data.side, run.data.side)
    target = resolve_device(execution.device)
    if execution.compile:
        check_compiler(target)
    processes, workers = execution.processes, execution.workers
    phases = getattr(method_class(method_of(run.model)), "trains_in_phases", False)
    check_run(run, execution, phases, encoder_file, diffusion_file)
    fabric = launch(target, processes, run.train.precision, phases)
    torch.manual_seed(run.train.seed)
    model = build_method(run.model, encoder_file or run.encoder_weights)
    if getattr(run.model, "diffusion_weights", ""):
        start_from_stable_diffusion(model, diffusion_file)
    if processes > 1:  # the same weights everywhere, but not the same stochastic depth
        share_batch_statistics(cast(nn.Module, model))
        torch.manual_seed(run.train.seed + fabric.global_rank)
    if isinstance(model, TexturedMethod):
        model.use_textures(execution.textures)
    kept, held = hold_out(samples, run.train.holdout, run.train.seed)
    images = _training_images(run, kept, execution)
    if isinstance(model, FittedMethod):
        return fit(model, run, images, out, execution, facts)
    check_held(model, held, run.train)
    if execution.features != "off" and not keeps_features(run.model):
        raise ValueError(f"{method_of(run.model)} needs the images themselves in every step: keep no features")
    steps = end = total_steps(run.train, len(images))
    optimizers = cast(TrainedMethod, model).optimizers(run.train)
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    wrapped, *wrapped_optimizers = fabric.setup(_Step(model, execution.compile), *optimizers)

    state_file = None if out is None else Path(out) / TRAINING_STATE
    state = TrainingState(run, names_hash(images.samples))
    if state_file is not None and state_file.is_file():
        state.load(state_file, model, optimizers, fabric)
    show = execution.progress and fabric.is_global_zero
    cached = None
    if execution.features != "off" and isinstance(model, FeatureMethod) and state.step < end:
        cached = cache_features(
            model,
            images,
            execution.features,
            device=fabric.device,
            folder=execution.feature_dir,
            precision=run.train.precision,
            autocast=fabric.autocast,
            workers=workers,
            sharers=processes if target.type == "cpu" else 1,
            progress=show,
        )
    in_memory = execution.features != "off" and execution.feature_dir is None
    loader: DataLoader[Any] = DataLoader(
        images if cached is None else cached,
        batch_sampler=(
            batch[fabric.global_rank :: processes]
            for batch in islice(batches(len(images), run.train, steps), state.step, None)
        ),
        collate_fn=_images_alone if cached is None else list,
        num_workers=0 if in_memory else workers,
        generator=torch.Generator(),  # or the loader draws from the global one, and a continued run differs
        pin_memory=target.type == "cuda" and not in_memory,
    )
    every = checkpoint_every or max(1, steps // 10)
    check = None
    if run.train.patience is not None:
        check = held_out_loss(run, held, fabric.device)
        end = last_step(steps, run.train, state.held_losses)
    wrapped.train()
    started = saved = time.perf_counter()

    def save() -> None:
        if state_file is not None:
            state.save(state_file, model, optimizers, time.perf_counter() - started, fabric)

    with stop_between_steps() as stop, progress(steps, "train", show, unit="step", start=state.step) as bar:
        for batch in loader:
            if state.step >= end:
                break
            factor = lr_factor(state.step, end, run.train)
            for optimizer, own in zip(optimizers, peaks, strict=True):
                for group, peak in zip(optimizer.param_groups, own, strict=True):
                    group["lr"] = peak * factor
            if cached is None:
                loss = wrapped(batch.to(fabric.device, non_blocking=True), state.step / steps)
            else:
                loss = wrapped(as_features(batch, fabric.device), state.step / steps)
            fabric.backward(loss)
            norms = [
                fabric.clip_gradients(wrapped, optimizer, max_norm=run.train.clip_norm, error_if_nonfinite=False)
                for optimizer in optimizers
            ]
            value = mean(fabric, loss.detach())
            # an infinite gradient can come with a finite loss, and one more step would make the weights NaN
            for name, number in (("loss", value), *(("gradient's norm", float(cast(Tensor, n))) for n in norms)):
                if not math.isfinite(number):
                    raise FloatingPointError(
                        f"the {name} is {number} at step {state.step + 1}: lower the learning rate ({run.train.lr}) "
                        f"or the gradient clip ({run.train.clip_norm})"
                    )
            for stepped in wrapped_optimizers:
                stepped.step()
                stepped.zero_grad(set_to_none=True)
            state.advance(value)
            if check is not None and state.step % check_every(steps) == 0:
                state.held_losses.append(mean(fabric, check(cast(TrainedMethod, model), state.step / steps)))
                end = last_step(steps, run.train, state.held_losses)
            if watch is not None:
                before = time.perf_counter()
                watch(model, state.step, state.step >= end)
                started += time.perf_counter() - before
            bar.note(f"loss {value:.3f}")
            bar.update()
            # all processes save or none: signals and clocks differ among them, and saving gathers their random states
            due = state.step % every == 0 or time.perf_counter() - saved > SAVE_SECONDS
            request = largest(fabric, stop.signal or int(due))  # a signal's number is above 1
            if request > 1:
                stop.signal = request
                save()
                raise stop.error()
            if request and state.step < end:
                save()
                saved = time.perf_counter()
    seconds = state.seconds + time.perf_counter() - started
    model.eval()
    if keep_state:
        save()
    if isinstance(model, FinishedMethod):
        if fabric.is_global_zero:
            finish(model, run, images, held, fabric.device, show)
        if processes > 1:  # which share the evaluation, too
            model.load_state_dict(fabric.broadcast(model.state_dict()))
    if state_file is not None and fabric.is_global_zero:
        save_checkpoint(state_file.with_name(CHECKPOINT), model, {"run": to_dict(run), **facts})
        if not keep_state and stop.signal is None:
            state_file.unlink(missing_ok=True)
    if stop.signal is not None:  # it came after the last step
        raise stop.error()
    told: dict[str, Any] = {
        "precision": run.train.precision,
        "compiled": execution.compile,
        "features": execution.features,
        "features_in": "none" if execution.features == "off" else "memory" if in_memory else "folder",
        "image_cache": execution.image_cache is not None,
        "processes": processes,
        "threads": torch.get_num_threads(),
        "workers": workers,
    }
    if check is not None:
        told["held_out_loss"] = [[(k + 1) * check_every(steps), loss] for k, loss in enumerate(state.held_losses)]
    return TrainResult(model, thin(state.losses), state.step, seconds, str(fabric.device), fabric.is_global_zero, told)


class _Step(nn.Module):
    """The loss of one step, in the run's precision and with gradients shared among the processes."""

    def __init__(self, model: Method, compiled: bool) -> None:
        super().__init__()
        self.model = model
        if compiled and not isinstance(model, MambaAD):
            raise ValueError("compile is for MambaAD only: leave it out for the other methods")
        # kept beside the model, whose keys and whose evaluation stay as they are
        self.reconstruct = torch.compile(cast(MambaAD, model).reconstruct, dynamic=False) if compiled else None

    def forward(self, batch: Tensor | list[Tensor], progress: float) -> Tensor:
        """Images, or encoder features computed before -> the loss."""
        model: Any = self.model
        if isinstance(batch, Tensor) and not isinstance(model, FeatureMethod):
            return cast(Tensor, model.loss(batch, progress))
        features = model.encode(batch) if isinstance(batch, Tensor) else batch
        if self.reconstruct is not None:
            return reconstruction_loss(features, self.reconstruct(features))
        return cast(Tensor, model.loss_from_features(features))


def _images_alone(items: list[tuple[Tensor, Tensor, int]]) -> Tensor:
    return torch.stack([image for image, _, _ in items])


def _training_images(run: RunConfig, samples: Sequence[Sample], execution: Execution) -> ImageSet:
    good = [sample for sample in samples if sample.split == "train"]
    # with features kept, every image is read once
    in_memory = execution.features == "off" and len(good) * run.data.side**2 * 3 <= CACHE_BYTES
    cache = in_memory if execution.image_cache is None else execution.image_cache
    return ImageSet(good, run.data.side, run.model.mean, run.model.std, cache=cache, progress=execution.progress)


def thin(losses: list[float], points: int = LOSS_POINTS) -> list[tuple[int, float]]:
    """(last step, mean loss) of at most `points` consecutive stretches of equal length."""
    stretch = -(-len(losses) // points) or 1
    values = Tensor(losses).split(stretch) if losses else ()
    return [(min((i + 1) * stretch, len(losses)), v.mean().item()) for i, v in enumerate(values)]

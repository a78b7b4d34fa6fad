"""One run from its settings to its record: data, training, evaluation, and everything worth knowing about them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from mambaad.config import DataConfig, RunConfig, to_dict
from mambaad.data import DatasetError, Sample, counts, index_hash, load_dataset
from mambaad.data.contents import CONTENT_CACHE, contents_hash
from mambaad.data.holdout import hold_out
from mambaad.data.synthetic.generate import write_synthetic
from mambaad.data.tiles import files_behind
from mambaad.data.validate import check_readable
from mambaad.efficiency import count
from mambaad.engine import records
from mambaad.engine.curve import Curve
from mambaad.engine.environment import environment
from mambaad.engine.evaluate import Observer, evaluate_run
from mambaad.engine.execution import Execution, pinned_threads
from mambaad.engine.lock import locked
from mambaad.engine.processes import is_first
from mambaad.engine.train import TRAINING_STATE, train_run
from mambaad.files import atomic_path
from mambaad.model.checkpoint import TRAINING_FILES
from mambaad.model.encoder_weights import weights_sha256

DATA_ROOT = "data_root.txt"
"""Beside a checkpoint: where its images lay, for later commands on the same machine, in the bytes of the system's file
names and a line break. No part of the record."""


def execute(
    run: RunConfig,
    results: str | Path,
    *,
    profile: str,
    data_root: str | Path | None = None,
    samples: Sequence[Sample] | None = None,
    encoder_file: str | Path | None = None,
    diffusion_file: str | Path | None = None,
    outputs: str | Path | None = None,
    execution: Execution | None = None,
    observe: Observer | None = None,
    curve_every: int | None = None,
    force: bool = False,
) -> Path:
    """Train and evaluate a run and write its record, `<results>/runs/<profile>_<hash>.json`; returns that path.

    Without test images the record's metrics are empty.

    Nothing is done if a record of this run and profile is there and valid. A run that was interrupted, or
    that failed before its record was written, continues from its last training state.

    Args:
        results: folder of the records.
        data_root: the images; None for the synthetic set, which is then drawn below `outputs`.
        samples: what `load_dataset` finds below `data_root`, if that is known already.
        encoder_file: the file behind `run.encoder_weights` where that is a file name.
        diffusion_file: the file behind `run.model.diffusion_weights` where DiAD starts from one.
        outputs: folder for checkpoints and synthetic images; default: `outputs` beside `results`.
        execution: how to carry the run out; no part of the run's hash, but told in the record. None: the defaults of
            `Execution`, among them one thread.
        observe: sees the anomaly maps of the test images and adds fields to the record.
        curve_every: steps between two measurements of the metrics during training, kept in the record's `curve`.
        force: run again even if there is a record.

    Raises:
        DatasetError: a test image that cannot be read, told before anything is trained;
            no data root for a data set that needs one, or not the files that the run names.
        CacheError, EncoderWeightsError, ValueError: as for `train_run`; another process works on the same run.
    """
    path = records.record_path(results, profile, run.hash)
    execution = execution or Execution()
    if not force and (made := _finished(path, run, profile)) is not None:
        _say_nothing_trained(path, made, execution, curve_every)
        return path
    started = time.perf_counter()
    outputs = Path(outputs) if outputs is not None else Path(results).resolve().parent / "outputs"
    root = data_folder(run.data, data_root, outputs)
    if samples is None:
        samples = load_dataset(run.data.dataset, root, run.data.categories)
    index = check_index(run.data, samples, root, outputs / CONTENT_CACHE)
    test = [sample for sample in samples if sample.split == "test"]
    kept, held = hold_out(samples, run.train.holdout, run.train.seed)
    check_readable([*test, *held], execution.progress)  # not after hours of training
    folder = outputs / "runs" / f"{profile}_{run.hash}"
    with locked(folder) if is_first() else nullcontext():
        if is_first():
            with atomic_path(folder / DATA_ROOT, suffix="") as note:
                note.write_bytes(os.fsencode(Path(root).resolve()) + b"\n")
        curve = None
        if curve_every is not None and test:
            curve = Curve(folder, run, samples, curve_every, execution)
        with pinned_threads(execution.threads):
            trained = train_run(
                run,
                samples,
                encoder_file=encoder_file,
                diffusion_file=diffusion_file,
                out=folder,
                keep_state=True,
                execution=execution,
                facts=_training_files(kept, outputs) if is_first() else None,
                watch=curve,
            )
            metrics = evaluate_run(trained.model, run, samples, execution, observe=observe) if test else {}
            if not trained.is_main:
                raise SystemExit(0)  # one of several processes: the first one writes the record
            ran_on = environment(trained.device)
        efficiency = count(run.model, side=run.data.side)
        weights = encoder_file or run.encoder_weights
        record = {
            "schema": records.SCHEMA_VERSION,
            "profile": profile,
            "hash": run.hash,
            "config": to_dict(run),
            "encoder": {
                "name": run.model.backbone,
                "weights": run.encoder_weights,
                "sha256": weights_sha256(run.model.backbone, weights, trained.model.encoder.net),
            },
            "data": {"dataset": run.data.dataset, "index_hash": index, "counts": counts(samples)},
            "seed": run.train.seed,
            "environment": ran_on,
            "wall_seconds": time.perf_counter() - started,
            "train": {
                "loss": [list(point) for point in trained.loss],
                "steps": trained.steps,
                "seconds_per_step": trained.seconds / trained.steps,
            },
            "execution": trained.execution,
            "metrics": metrics,
            "efficiency": {"params_m": efficiency.params_m, "flops_g": efficiency.flops_g},
        }
        if observe is not None and test:
            record |= observe.facts()
        if curve is not None:
            curve.end(trained.steps, metrics)
            record |= curve.facts()
        written = records.write_record(path, record)
        (folder / TRAINING_STATE).unlink(missing_ok=True)  # now nothing is lost with it
        return written


def _finished(path: Path, run: RunConfig, profile: str) -> dict[str, Any] | None:
    try:
        record = records.read_record(path)
    except records.RecordError:
        return None
    return record if record["hash"] == run.hash and record["profile"] == profile else None


def _say_nothing_trained(path: Path, record: Mapping[str, Any], execution: Execution, curve_every: int | None) -> None:
    """What is no part of the hash may still change digits: say so where a record was made otherwise."""
    made = record.get("execution", {})
    asked = {"processes": execution.processes, "compiled": execution.compile, "features": execution.features}
    if execution.threads is not None:
        asked["threads"] = execution.threads
    others = [f"{name} {made[name]}, not {value}" for name, value in asked.items() if made.get(name, value) != value]
    if curve_every is not None and record.get("curve", {}).get("every") != curve_every:
        others.append(f"no curve of every {curve_every} steps")
    how = f" (made with {'; '.join(others)}: remove it to train again)" if others else ""
    print(f"record exists, nothing trained: {path}{how}", file=sys.stderr)


def data_folder(data: DataConfig, data_root: str | Path | None, outputs: Path) -> Path:
    """The folder of a run's images; the synthetic set is drawn first if it is not there.

    Raises:
        DatasetError: another data set without a data root.
    """
    if data_root is not None:
        return Path(data_root)
    if data.dataset != "synthetic":
        raise DatasetError(
            f"the data set {data.dataset!r} needs its images: pass the folder that holds them as data_root"
        )
    name = f"{data.side}px_seed{data.synthetic_seed}_{data.synthetic_train}train_{data.synthetic_test}test"
    return write_synthetic(
        outputs / "synthetic" / "_".join([name, *data.categories]),
        side=data.side,
        seed=data.synthetic_seed,
        train=data.synthetic_train,
        test=data.synthetic_test,
        categories=data.categories,
    )


def _training_files(samples: Sequence[Sample], outputs: Path) -> dict[str, Any]:
    """What the checkpoint says of the images behind it: a threshold must not be calibrated on them."""
    images = [sample.image for sample in samples if sample.split == "train"]
    return {TRAINING_FILES: files_behind(images, outputs / CONTENT_CACHE)}


def check_index(data: DataConfig, samples: Sequence[Sample], root: Path, cache: Path | None = None) -> str:
    """Hash of the files a run sees, of their contents where the run's settings have that, else of their sizes.

    Raises DatasetError if the settings name other files.
    """
    found = index_hash(samples, root)
    if data.index_hash and found != data.index_hash:
        found = contents_hash(samples, root, cache)
    if data.index_hash and found != data.index_hash:
        raise DatasetError(
            f"the files below {root} have the index hash {found}, this run is about {data.index_hash}: "
            "pass the data root the study was planned with, or plan it again with this one"
        )
    return found

"""What the report of a run shows: the record, and the checkpoint evaluated once more on the run's test images.

Records hold metrics, no scores and no maps, so curves and pictures come from a second evaluation. It also checks the
first: its metrics must be those of the record.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mambaad.baselines import Method, load_method
from mambaad.config import RunConfig, run_config_from_dict
from mambaad.data import DatasetError, Sample, load_dataset
from mambaad.device import resolve_device
from mambaad.engine import records
from mambaad.engine.environment import environment
from mambaad.engine.evaluate import predicted
from mambaad.engine.execution import Execution, pinned_threads
from mambaad.engine.result import CHECKPOINT
from mambaad.engine.run import DATA_ROOT, check_index
from mambaad.inference.curves import Curves, curves
from mambaad.inference.gallery import colour_scale
from mambaad.inference.report_pictures import Picture, take_picture
from mambaad.inference.threshold import Threshold, stored_threshold, stored_thresholds
from mambaad.inference.weights_hub import sha256
from mambaad.metrics import METRICS, Streamed, StreamingMetrics
from mambaad.model.checkpoint import read_checkpoint
from mambaad.progress import progress

PICTURES = 8
AGREEMENT = 0.05
"""Percentage points by which a second evaluation may differ: another device or number of threads rounds otherwise."""


@dataclass(frozen=True)
class CategoryResult:
    """One category's test images, as scored for the report."""

    name: str
    samples: Sequence[Sample]
    scores: NDArray[np.float64]
    curves: Curves
    threshold: Threshold | None
    """The checkpoint's."""
    start: float
    """The threshold that the report opens with: the checkpoint's, else `Curves.balanced`, from these images."""
    measured: Streamed


@dataclass(frozen=True)
class Evaluated:
    """The second evaluation."""

    categories: Sequence[CategoryResult]
    misses: Sequence[Picture]
    """Defective images with the lowest scores, the lowest first."""
    false_alarms: Sequence[Picture]
    """Good images with the highest scores, the highest first."""
    environment: Mapping[str, Any]
    seconds_per_image: float
    """Of reading and scoring, over the whole test set."""
    difference: float
    """Largest difference from the record's metrics in percentage points, as far as it is more than the bounds of this
    evaluation leave open."""
    differs: str
    """Which metric differs most."""


@dataclass(frozen=True)
class Report:
    """Everything that the page shows."""

    record: Mapping[str, Any]
    run: RunConfig
    checkpoint_sha256: str
    thresholds: Mapping[str, Threshold]
    """Those in use, by category; under "" one for all of them."""
    unused: str
    """Why others in the checkpoint are not used; empty if there are none."""
    evaluated: Evaluated | None
    """None for a run without test images."""


def find_run(out: str | Path, run: str | None = None) -> Path:
    """The record of a run below the folder `out` of `mambaad train`.

    Args:
        run: the first digits of its hash, where there are several.

    Raises:
        DatasetError: none, or several that fit.
    """
    found = sorted((Path(out) / "runs").glob(f"*_{run or ''}*.json"))
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.stem.rpartition("_")[2] for path in found)
    if found:
        raise DatasetError(f"{out} holds {len(found)} runs: name one of them with --run ({names})")
    raise DatasetError(
        f"{out} holds no run{'' if run is None else f' {run}'}: name the folder that was --out of mambaad train"
    )


def make_report(
    record: str | Path,
    data_root: str | Path | None = None,
    *,
    pictures: int = PICTURES,
    execution: Execution | None = None,
) -> Report:
    """Read a run's record and checkpoint, and evaluate it once more.

    Args:
        record: as from `find_run`; the checkpoint is expected beside it, where `mambaad train` puts it.
        data_root: the images; None: where they lay when the run was trained.
        pictures: of misses and of false alarms, at most so many each.
        execution: device, threads, workers and progress; None: the defaults.

    Raises:
        DatasetError: no images at the place, or other ones than those of the run.
        CheckpointError, RecordError: no readable checkpoint or record.
    """
    record, execution = Path(record), execution or Execution()
    content = records.read_record(record)
    run = run_config_from_dict(content["config"])
    checkpoint = record.parent / record.stem / CHECKPOINT
    weights = read_checkpoint(checkpoint)
    thresholds, unused = _fitting(all_thresholds(weights), run.data.side)
    evaluated = None
    if content["metrics"]:
        root = _data_root(record, data_root)
        samples = load_dataset(run.data.dataset, root, run.data.categories)
        check_index(run.data, samples, root)
        test = [sample for sample in samples if sample.split == "test"]
        with pinned_threads(execution.threads):
            evaluated = _evaluate(load_method(weights), run, test, content["metrics"], thresholds, pictures, execution)
    return Report(content, run, sha256(checkpoint), thresholds, unused, evaluated)


def all_thresholds(content: Mapping[str, Any]) -> dict[str, Threshold]:
    """The thresholds in a checkpoint's content by category, under "" the one that holds for all."""
    overall = stored_threshold(content)
    return ({} if overall is None else {"": overall}) | stored_thresholds(content)


def _fitting(thresholds: Mapping[str, Threshold], side: int) -> tuple[dict[str, Threshold], str]:
    """The thresholds of whole images at this side, and why another one is left out."""
    fitting, reason = {}, ""
    for category, threshold in thresholds.items():
        try:
            threshold.check_side(side)
            fitting[category] = threshold
        except ValueError as error:
            reason = str(error)
    return fitting, reason


def _data_root(record: Path, data_root: str | Path | None) -> Path:
    if data_root is not None:
        return Path(data_root)
    note = record.parent / record.stem / DATA_ROOT
    try:
        root = Path(os.fsdecode(note.read_bytes().removesuffix(b"\n")))
    except OSError as error:
        raise DatasetError(f"where the images of this run lie is not noted in {note}: name them with --data") from error
    if not root.is_dir():
        raise DatasetError(f"the images of this run lay in {root}, which is no longer there: name them with --data")
    return root


def _evaluate(
    model: Method,
    run: RunConfig,
    test: Sequence[Sample],
    recorded: Mapping[str, Any],
    thresholds: Mapping[str, Threshold],
    pictures: int,
    execution: Execution,
) -> Evaluated:
    started = time.perf_counter()
    results = []
    with progress(len(test), "evaluate", execution.progress, unit="image") as bar:
        for category in dict.fromkeys(sample.category for sample in test):
            own = [sample for sample in test if sample.category == category]
            pixels, scores = StreamingMetrics(), []
            for _, maps, masks, labels, of_images in predicted(model, own, run.data.side, execution, 16, bar):
                pixels.update(maps.numpy(), masks.numpy(), labels, of_images.numpy())
                scores += of_images.tolist()
            threshold = thresholds.get(category, thresholds.get(""))
            results.append(_result(category, own, np.array(scores), pixels, threshold))
    seconds = (time.perf_counter() - started) / len(test)
    ranked = sorted(((_margin(r, i), r, i) for r in results for i in range(len(r.samples))), key=lambda found: found[0])
    misses = [(r, i) for _, r, i in ranked if r.samples[i].is_defect][:pictures]
    alarms = [(r, i) for _, r, i in reversed(ranked) if not r.samples[i].is_defect][:pictures]
    difference, differs = _compare(results, recorded)
    device = resolve_device(execution.device)
    return Evaluated(
        categories=results,
        misses=[_picture(model, run.data.side, device, r, i) for r, i in misses],
        false_alarms=[_picture(model, run.data.side, device, r, i) for r, i in alarms],
        environment=environment(str(device)),
        seconds_per_image=seconds,
        difference=difference,
        differs=differs,
    )


def _result(
    category: str,
    samples: Sequence[Sample],
    scores: NDArray[np.float64],
    pixels: StreamingMetrics,
    threshold: Threshold | None,
) -> CategoryResult:
    found = curves(
        scores,
        [sample.is_defect for sample in samples],
        pixels.histogram(),
        also=[] if threshold is None else [threshold.value],
    )
    start = threshold.value if threshold is not None else found.balanced()
    if start is None:
        start = float(np.median(scores))
    return CategoryResult(category, samples, scores, found, threshold, start, pixels.result())


def _margin(result: CategoryResult, i: int) -> float:
    """By how much a score lies above its category's threshold, in units that are comparable between categories."""
    return (result.scores[i] - result.start) / max(float(np.ptp(result.scores)), 1e-12)


def _picture(model: Method, side: int, device: Any, result: CategoryResult, i: int) -> Picture:
    scale = colour_scale(result.scores.tolist(), result.start)
    return take_picture(model, result.samples[i], side, device, float(result.scores[i]), result.start, scale)


def _compare(results: Sequence[CategoryResult], recorded: Mapping[str, Any]) -> tuple[float, str]:
    """The largest difference from the record, and the metric it is about."""
    worst, which = 0.0, ""
    for result in results:
        for protocol in ("exact", "paper"):
            old = recorded[protocol]["categories"].get(result.name, {})
            for metric in METRICS:
                value = old.get(metric)
                value = math.nan if value is None else value
                low, high = result.measured.bounds[protocol][metric]
                if math.isnan(value) and math.isnan(low):
                    continue
                beyond = max(low - value, value - high, 0.0)
                if math.isnan(value) or math.isnan(low) or beyond > worst:
                    worst = math.inf if math.isnan(value) or math.isnan(low) else beyond
                    which = f"{metric} of {result.name}, protocol {protocol}"
    return worst, which

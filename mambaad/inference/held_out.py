"""Thresholds from the good images that training held out, one for each category, and how often they are wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mambaad.baselines import Method, load_method
from mambaad.config import RunConfig
from mambaad.data import Sample
from mambaad.data.contents import content_hashes
from mambaad.data.holdout import hold_out
from mambaad.engine.execution import Execution, pinned_threads
from mambaad.inference.predict import score_files
from mambaad.inference.threshold import (
    DEFAULT_RATE,
    Threshold,
    above,
    calibrate,
    check_unseen,
    store_threshold,
    stored_threshold,
    stored_thresholds,
)
from mambaad.model.checkpoint import TRAINING_FILES, read_checkpoint

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class FalsePositives:
    """Good images above their threshold, and the interval of their share (Clopper and Pearson, 1934)."""

    above: int
    images: int
    low: float
    high: float
    """Ends of the 95 % interval, 0..1."""

    @property
    def note(self) -> str:
        """In one sentence."""
        share = 100 * self.above / self.images
        return (
            f"{self.above} of {self.images} good test images above it: {share:.1f} % "
            f"(95 % interval {100 * self.low:.1f} to {100 * self.high:.1f})"
        )


def false_positives(scores: Sequence[float], value: float) -> FalsePositives:
    """Count the scores above a threshold's value by more than rounding, as verdicts do.

    Args:
        scores: of good images that neither trained the model nor set the threshold.

    Raises:
        ValueError: no scores.
    """
    from scipy.stats import binomtest

    if not scores:
        raise ValueError("a false-positive rate needs the scores of good images, got none")
    number = sum(above(score, value) for score in scores)
    interval = binomtest(number, len(scores)).proportion_ci(CONFIDENCE, method="exact")
    return FalsePositives(above=number, images=len(scores), low=float(interval.low), high=float(interval.high))


def calibrate_run(
    weights: str | Path,
    run: RunConfig,
    samples: Sequence[Sample],
    *,
    rate: float = DEFAULT_RATE,
    execution: Execution | None = None,
) -> dict[str, Any]:
    """Set the thresholds of a run's checkpoint from the images that it held out; what a record says of them.

    The checkpoint holds one threshold per category and one of all images together, for images of no known category.

    Args:
        weights: the run's checkpoint, written over.
        samples: those the run was trained on.
        rate: share of good images to be above at most.

    Returns:
        `{"rate": rate, "categories": {category: {"threshold": ..., "false_positives": ... or None}}}`, empty if the
        run held out none.

    Raises:
        DatasetError: most of the images held out were trained on.
        ValueError: a rate that is not between 0 and 1, scores that are not finite, images that cannot be read.
    """
    _, held = hold_out(samples, run.train.holdout, run.train.seed)
    if not held:
        return {}
    execution = execution or Execution(threads=None)
    test = [sample for sample in samples if sample.split == "test" and not sample.is_defect]
    with pinned_threads(execution.threads):
        content = read_checkpoint(weights)
        held = _unseen(content, held)
        scores = _scores(load_method(content), [*held, *test], run.data.side, execution)
    by_category = {}
    found: dict[str, Any] = {}
    for category in dict.fromkeys(sample.category for sample in held):
        own = [scores[s.image] for s in held if s.category == category]
        by_category[category] = threshold = calibrate(own, rate, side=run.data.side)
        good = [scores[s.image] for s in test if s.category == category]
        found[category] = {
            "threshold": asdict(threshold),
            "false_positives": asdict(false_positives(good, threshold.value)) if good else None,
        }
    overall = calibrate([scores[s.image] for s in held], rate, side=run.data.side)
    store_threshold(weights, overall, by_category=by_category)
    return {"rate": rate, "categories": found}


def _unseen(content: Mapping[str, Any], held: list[Sample]) -> list[Sample]:
    """The images held out without copies of images that were trained on.  Raises DatasetError if most were trained on:
    then the choice was another one, as before the folder of a category got another name."""
    images = [sample.image for sample in held]
    trained = set(map(str, content.get(TRAINING_FILES) or ()))
    unseen = [s for s, found in zip(held, content_hashes(images), strict=True) if found not in trained]
    if 2 * len(unseen) < len(held):
        check_unseen(content, images)
    return unseen


def set_later(weights: str | Path) -> Threshold | None:
    """The threshold of a run's checkpoint if the command `calibrate` set it after the training: that one alone comes
    without thresholds of single categories."""
    content = read_checkpoint(weights)
    return None if stored_thresholds(content) else stored_threshold(content)


def notes(found: Mapping[str, Any]) -> list[str]:
    """What `calibrate_run` found, one sentence per category."""
    lines = []
    for category, values in found.get("categories", {}).items():
        measured = values["false_positives"]
        seen = "" if measured is None else f"; {FalsePositives(**measured).note}"
        lines.append(f"{category}: {Threshold(**values['threshold']).note}{seen}")
    return lines


def _scores(model: Method, samples: Sequence[Sample], side: int, execution: Execution) -> dict[Path, float]:
    images = [sample.image for sample in samples]
    scores, failed = score_files(model, images, side, device=execution.device, progress=execution.progress)
    for reason in failed.values():
        raise ValueError(reason)
    return scores

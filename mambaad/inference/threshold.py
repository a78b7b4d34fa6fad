"""The score above which an image is called anomalous, from good images that were not trained on.

Split conformal calibration: of n good scores, the k-th smallest is exceeded by another good image with a probability
of at most (n + 1 - k) / (n + 1), whatever their distribution, if the new image comes from the same source.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mambaad.baselines import load_method
from mambaad.config import SIDES, SIDES_IN_WORDS
from mambaad.config.parse import parse, shortened
from mambaad.data import DatasetError
from mambaad.data.contents import content_hashes
from mambaad.data.tiles import Tiling
from mambaad.model.checkpoint import (
    TRAINING_FILES,
    CheckpointError,
    read_checkpoint,
    save_checkpoint,
    write_checkpoint,
)

KEY = "threshold"
"""Where a checkpoint holds the threshold, as plain values."""
BY_CATEGORY = "thresholds"
"""Where it holds those of single categories, by name."""
DEFAULT_RATE = 0.01


TOLERANCE = 1e-5
"""By so much of a threshold a score has to be above it: the same image scores about 1e-7 more or less in another batch,
with other threads or on another machine, and calibration puts the threshold on the score of an image."""


def limit(threshold: float) -> float:
    """The score beyond which an image is above a threshold by more than rounding."""
    return threshold + TOLERANCE * abs(threshold)


def above(score: float, threshold: float) -> bool:
    """Whether a score is above a threshold by more than rounding."""
    return score > limit(threshold)


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """An image is anomalous if its score is above `value` by more than rounding (`above`)."""

    value: float
    rate: float
    """The share of good images wanted above it at most, 0..1."""
    supported_rate: float
    """The share that so few images can vouch for; above `rate` if there were too few."""
    images: int
    """Good images that it was calibrated on."""
    side: int
    """Side of the network's input in pixels: scores of another side are not comparable."""
    median: float
    """Median score of those images."""
    tile: int = 0
    """Side of the tiles that images were predicted in, in the images' pixels; 0: whole images."""
    overlap: float | None = None
    """Share that those tiles overlapped by; None: whole images, or not known."""
    region: str | None = None
    """Hash of the region mask (`mambaad.inference.tiles.region_hash`), "" without one; None: not known."""

    @classmethod
    def given(cls, value: float, side: int, tile: int = 0) -> Threshold:
        """One that was set by hand: it vouches for nothing.  Raises ValueError if it is not finite."""
        if not math.isfinite(value):
            raise ValueError(f"the threshold must be a finite number, got {value}")
        return cls(value=value, rate=1.0, supported_rate=1.0, images=0, side=side, median=math.nan, tile=tile)

    def check_side(self, side: int, tiling: Tiling | None = None, region: str = "") -> None:
        """Raise ValueError if images are scored at another side, in other tiles or in another region.

        Args:
            region: hash of the region mask, "" without one.

        What the threshold does not know, as one by hand or of an earlier version, is not compared.
        """
        if self.side != side:
            raise ValueError(
                f"the threshold is of side {self.side} and the images would be scored at side {side}: "
                f"use --side {self.side}, or calibrate again with --side {side}"
            )
        tile = 0 if tiling is None else tiling.tile
        if self.tile != tile:
            raise ValueError(
                f"the threshold is of {_in_words(self.tile)} and the images would be scored in {_in_words(tile)}: "
                "calibrate again with the same --tile, or give --threshold"
            )
        if tiling is not None and self.overlap is not None and not math.isclose(self.overlap, tiling.overlap):
            raise ValueError(
                f"the threshold is of tiles that overlap by {self.overlap:g} and the images would be scored in tiles "
                f"that overlap by {tiling.overlap:g}: use --overlap {self.overlap:g}, or calibrate again with "
                f"--overlap {tiling.overlap:g}"
            )
        if self.region is not None and self.region != region:
            theirs = "with another one" if self.region and region else f"{'with' if region else 'without'} one"
            own, used = (
                "with the same mask as --region" if mask else "without --region" for mask in (self.region, region)
            )
            raise ValueError(
                f"the threshold was set {'with' if self.region else 'without'} a region mask and the images would be "
                f"scored {theirs}: predict {own}, calibrate again {used}, or give --threshold"
            )

    def exceeded_by(self, score: float) -> bool:
        """Whether an image of this score is anomalous, see `above`."""
        return above(score, self.value)

    @property
    def note(self) -> str:
        """In one sentence what the threshold vouches for."""
        if not self.images:
            return f"threshold {self.value:.6g} as given: not calibrated"
        parts = (f"side {self.side}", _in_words(self.tile) if self.tile else "", "in a region" if self.region else "")
        where = ", ".join(filter(None, parts))
        text = f"threshold {self.value:.6g} from {self.images} good images at {where}"
        if self.supported_rate <= self.rate * (1 + 1e-9):
            return f"{text}: at most {self.rate:.3g} of good images are expected above it"
        needed = math.ceil(1 / self.rate - 1e-9) - 1
        return (
            f"{text}, their largest score: {self.images} images support a rate of {self.supported_rate:.3g} at best, "
            f"for {self.rate:.3g} calibrate with {needed} or more"
        )


def calibrate(
    scores: Sequence[float], rate: float = DEFAULT_RATE, *, side: int, tiling: Tiling | None = None, region: str = ""
) -> Threshold:
    """The smallest of the scores that at most the share `rate` of good images is expected to exceed.

    With fewer than 1 / rate - 1 scores no such value exists; then the largest score is taken, and `supported_rate` and
    `note` say so.

    Args:
        scores: of good images that the model was not trained on.
        rate: false-positive rate wanted, between 0 and 1.
        side: of the network's input.
        tiling: the tiles, if the scores are of tiled images.
        region: hash of the region mask that the scores are of, "" without one.

    Raises:
        ValueError: a rate that is not between 0 and 1; no scores, or scores that are not finite.
    """
    check_rate(rate)
    ordered = sorted(map(float, scores))
    if not ordered:
        raise ValueError("a threshold needs the scores of good images, got none")
    if not all(map(math.isfinite, ordered)):
        raise ValueError("a threshold needs finite scores, got inf or NaN: the checkpoint is damaged")
    n = len(ordered)
    above = math.floor((n + 1) * rate + 1e-9)  # scores, the new image's included, that may lie above
    k = min(n + 1 - above, n)
    return Threshold(
        value=ordered[k - 1],
        rate=rate,
        supported_rate=(n + 1 - k) / (n + 1),
        images=n,
        side=side,
        median=ordered[n // 2] if n % 2 else (ordered[n // 2 - 1] + ordered[n // 2]) / 2,
        tile=0 if tiling is None else tiling.tile,
        overlap=None if tiling is None else tiling.overlap,
        region=region,
    )


def _in_words(tile: int) -> str:
    return f"tiles of {tile} pixels" if tile else "whole images"


def check_good_alone(folder: str | Path, images: Sequence[Path]) -> None:
    """Raise DatasetError if the images below a folder are, by the names around them, not all good and unseen.

    Defective images push the threshold up, images of the training push it down. Seen are the folders below it, its own
    name and those above it (train, test), and siblings: a folder beside one named good holds something else.
    """
    root = Path(folder).absolute()
    root = root.parent if root.is_file() else root
    below = {part for image in images for part in Path(image).absolute().relative_to(root).parts[:-1]}
    root = root.resolve()  # not before: images may be links to files elsewhere
    what = "name a folder of good images alone that were not trained on"
    if mixed := sorted(below & {"train", "test", "ground_truth"}):
        raise DatasetError(f"{folder} holds the folders {', '.join(mixed)}: {what}")
    if root.name == "train" or (root.name == "good" and root.parent.name == "train"):
        raise DatasetError(f"{folder} holds the images of the training: {what}")
    if root.name in ("test", "ground_truth") or "ground_truth" in root.parts:
        raise DatasetError(f"{folder} is a folder of test images or masks, defective ones among them: {what}")
    defects = root.name != "good" and (root.parent.name == "test" or (root.parent / "good").is_dir())
    if defects or (below - {"good"} and "good" in below):
        raise DatasetError(f"{folder} holds images beside the good ones, defective by their place: {what}")


def check_unseen(content: Mapping[str, Any], images: Sequence[Path]) -> None:
    """Raise DatasetError for images that a checkpoint was trained on, whatever their names and places are now."""
    trained = set(map(str, content.get(TRAINING_FILES) or ()))
    seen = [p for p, found in zip(images, content_hashes(images), strict=True) if found in trained] if trained else []
    if seen:
        raise DatasetError(
            f"{len(seen)} of {len(images)} images were trained on, among them {seen[0]}: their scores are lower than "
            "those of new images; calibrate on good images that the training did not see"
        )


def check_rate(rate: float) -> None:
    """Raise ValueError for a false-positive rate that is not between 0 and 1."""
    if not 0 < rate < 1:
        raise ValueError(f"the false-positive rate must be between 0 and 1, such as 0.01, got {rate:g}")


def stored_threshold(content: Mapping[str, Any]) -> Threshold | None:
    """The threshold in a checkpoint's content, if there is one.  Raises CheckpointError for a damaged one."""
    return None if content.get(KEY) is None else _read(content[KEY])


def stored_thresholds(content: Mapping[str, Any]) -> dict[str, Threshold]:
    """The thresholds of single categories in a checkpoint's content; empty if there are none.  Raises
    CheckpointError."""
    return {str(category): _read(values) for category, values in (content.get(BY_CATEGORY) or {}).items()}


def _read(values: Mapping[str, Any]) -> Threshold:
    try:
        threshold = parse(Threshold, values)
        if threshold.side not in SIDES:
            raise ValueError(f"its side must be {SIDES_IN_WORDS}, got {shortened(threshold.side)}")
    except ValueError as error:
        raise CheckpointError(f"the checkpoint's threshold cannot be read ({error}): calibrate again") from error
    return threshold


def threshold_for(
    name: str | Path, by_category: Mapping[str, Threshold], otherwise: Threshold | None = None
) -> Threshold | None:
    """The threshold of an image: that of the category whose folder it lies in, or of the only one there is.

    Args:
        name: the image's path; folders nearer to the image count first.
        otherwise: for an image of no known category.
    """
    category = category_for(name, by_category)
    return by_category[category] if category else otherwise


def category_for(name: str | Path, by_category: Mapping[str, Threshold]) -> str:
    """The category whose threshold an image has, as `threshold_for` finds it; "" for none."""
    if len(by_category) == 1:
        return next(iter(by_category))
    return next((part for part in reversed(Path(name).parts[:-1]) if part in by_category), "")


def stored_side(content: Mapping[str, Any], default: int = 256) -> int:
    """The side that a checkpoint belongs to: of its threshold, else of its training, else the paper's."""
    threshold = stored_threshold(content)
    if threshold is not None:
        return threshold.side
    try:
        side = content["run"]["data"]["side"]
    except (KeyError, TypeError, IndexError):
        return default
    return side if isinstance(side, int) and side in SIDES else default


def store_threshold(
    weights: str | Path,
    threshold: Threshold,
    out: str | Path | None = None,
    *,
    by_category: Mapping[str, Threshold] | None = None,
) -> Path:
    """Write the checkpoint `weights` with a threshold to `out`, by default over itself; return the path written.

    Thresholds of single categories that it held are replaced by `by_category`, or dropped: they were of other images.
    A published checkpoint is written as one of this project's, and only elsewhere: its file stays as it was published.

    Raises:
        CheckpointError: the checkpoint cannot be read, or is a published one and `out` is missing or the same file.
    """
    weights = Path(weights)
    content = read_checkpoint(weights)
    out = weights if out is None else Path(out)
    values: dict[str, Any] = {KEY: asdict(threshold)}
    if by_category:
        values[BY_CATEGORY] = {category: asdict(own) for category, own in by_category.items()}
    if "format" in content:
        write_checkpoint(out, {**{k: v for k, v in content.items() if k != BY_CATEGORY}, **values})
        return out
    if out.resolve() == weights.resolve():
        raise CheckpointError(f"{weights} is a published checkpoint and is left as it is: name another file with --out")
    save_checkpoint(out, load_method(content), values)
    return out

"""Checks at the public boundary of the metrics: numpy arrays, torch tensors or nested lists in, numpy arrays out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def as_array(values: ArrayLike, name: str) -> NDArray[Any]:
    """`values` as a numpy array of numbers; a tensor is detached and brought to the CPU.

    Half precision (float16, bfloat16) is widened to float32, which changes no comparison.
    """
    tensor: Any = values
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu()
        if tensor.is_floating_point() and tensor.dtype.itemsize < 4:
            tensor = tensor.float()  # numpy has no bfloat16
    array = np.asarray(tensor)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers, got {array.dtype}; pass a numpy array or a torch tensor")
    return array.astype(np.float32) if array.dtype == np.float16 else array


def as_binary(values: ArrayLike, name: str) -> NDArray[np.bool_]:
    """`values` as booleans; anything but False/True or 0/1 is refused rather than cut at a guessed level."""
    array = as_array(values, name)
    if array.dtype == np.bool_:
        return array
    wrong = (array != 0) & (array != 1)
    if wrong.any():
        raise ValueError(
            f"{name} must be binary (bool, or 0 and 1): {np.count_nonzero(wrong)} of {array.size} values are "
            f"neither, such as {array[wrong][0]!s}; threshold them first, for 8-bit masks `{name} > 127.5`"
        )
    return array != 0


def as_finite(values: ArrayLike, name: str) -> NDArray[Any]:
    """`values` as an array without NaN and infinities."""
    array = as_array(values, name)
    finite = np.isfinite(array)
    if not finite.all():
        first = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(
            f"{name} must be finite: {array.size - np.count_nonzero(finite)} of {array.size} values are NaN or "
            f"infinite, the first at index {first}; look for a diverged training or a division by zero upstream"
        )
    return array


def check_scores(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """Binary labels and finite scores of one common shape."""
    truth, ranked = as_binary(labels, "labels"), as_finite(scores, "scores")
    if truth.shape != ranked.shape:
        raise ValueError(f"labels and scores must have one shape, got {truth.shape} and {ranked.shape}")
    return truth, ranked


def check_maps(maps: ArrayLike, masks: ArrayLike) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Finite anomaly maps and binary masks, both (N, H, W) with no axis empty."""
    shapes = np.shape(as_array(maps, "maps")), np.shape(as_array(masks, "masks"))
    if len(shapes[0]) != 3 or shapes[0] != shapes[1] or 0 in shapes[0]:
        raise ValueError(
            f"maps and masks must both be (N, H, W) with at least one pixel, got {shapes[0]} and {shapes[1]}; "
            "drop a channel axis with `[:, 0]`, resize the masks to the maps"
        )
    return as_finite(maps, "maps"), as_binary(masks, "masks")


def check_labels(labels: ArrayLike, masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Binary image labels (N,) that do not call an image good whose mask shows a defect."""
    truth = as_binary(labels, "labels")
    if truth.shape != masks.shape[:1]:
        raise ValueError(f"labels must be ({len(masks)},), one per mask, got {truth.shape}")
    wrong = np.flatnonzero(masks.any(axis=(1, 2)) & ~truth)
    if wrong.size:
        raise ValueError(
            f"labels contradict masks: {wrong.size} of {len(masks)} images are labelled 0 (good) but have defect "
            f"pixels, the first ones {wrong[:8].tolist()}; correct them or leave labels out to follow the masks"
        )
    return truth

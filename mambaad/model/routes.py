"""Hybrid scanning: K routes through the feature map.  Paper: section 3.3, "HS encoder" and "HS decoder".

Axes: L = side * side tokens in image order (row * side + column), K scan routes.

A route visits every token once.  K = 2 runs through the image and back; K = 4 adds the transposed image, K = 8 its
rotation by 90 degrees and the transpose of that.  The K/2 forward routes come first, then the reversed ones in the
same order; the parameters of the published checkpoints are stacked like this.  Of the eight routes of hilbert and of
scan six are different: their mirror image is the curve backwards, so that two routes come twice.
"""

from functools import lru_cache

import torch
from jaxtyping import Int64
from torch import Tensor

from mambaad.model.scan_order import scan_order


def method_routes(method: str, number: int, side: int) -> Int64[Tensor, "K L"]:
    """Token visited at step t of route k, for the K = `number` routes of one scan method.

    Raises:
        ValueError: a number other than 2, 4 or 8, or a side that the method cannot fill (see `scan_order`).
    """
    if number not in (2, 4, 8):
        raise ValueError(f"a scan method has 2, 4 or 8 routes, got {number}")
    order = scan_order(method, side)
    image = torch.arange(side * side).view(side, side)
    rotated = torch.rot90(image, k=1, dims=(0, 1))
    views = [image, image.T, rotated, rotated.T][: number // 2]
    forward = torch.stack([view.reshape(-1)[order] for view in views])
    return torch.cat([forward, forward.flip(1)])


def hybrid_routes(scan: tuple[tuple[str, int], ...], side: int) -> Int64[Tensor, "K L"]:
    """Routes of several scan methods, (method, number of its routes) each, one method after the other.

    The paper's table 5 divides K = 8 routes among methods, and the published code has no such hybrids: that a method
    with n routes uses the first n of its eight is this project's reading.
    """
    return torch.cat([method_routes(method, number, side) for method, number in scan])


def cached_routes(scan: tuple[tuple[str, int], ...], side: int, device: torch.device) -> Int64[Tensor, "K L"]:
    """`hybrid_routes` on a device, kept between calls; do not write into it."""
    routes = _kept_routes(scan, side, device)
    if type(routes) is not Tensor:  # made while torch.export traces: a later call needs the numbers themselves
        _kept_routes.cache_clear()
    return routes


@lru_cache(maxsize=128)
def _kept_routes(scan: tuple[tuple[str, int], ...], side: int, device: torch.device) -> Int64[Tensor, "K L"]:
    with torch.inference_mode(False):  # or routes first made while predicting could not serve in training
        return hybrid_routes(scan, side).to(device)

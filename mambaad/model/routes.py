"""Hybrid scanning: K routes through the feature map.  Paper: section 3.3, "HS encoder" and "HS decoder".

Axes: B batch, D channels, L = side * side tokens in image order (row * side + column), K scan routes.

A route visits every token once.  K = 2 runs through the image and back; K = 4 adds the transposed image, K = 8 its
rotation by 90 degrees and the transpose of that.  The K/2 forward routes come first, then the reversed ones in the
same order; the parameters of the published checkpoints are stacked like this.
"""

from functools import lru_cache

import torch
from jaxtyping import Int64
from torch import Tensor

from mambaad.model.scan_order import scan_order
from mambaad.ops.routed_scan import hs_decode, hs_encode

__all__ = ["hs_decode", "hs_encode", "hybrid_routes", "route_table", "routes"]


def routes(method: str, directions: int, side: int) -> Int64[Tensor, "K L"]:
    """Token visited at step t of route k, for the K = `directions` routes of one scan method.

    Raises:
        ValueError: directions other than 2, 4 or 8, or a side that the method cannot fill (see `scan_order`).
    """
    if directions not in (2, 4, 8):
        raise ValueError(f"directions must be 2, 4 or 8, got {directions}")
    order = scan_order(method, side)
    image = torch.arange(side * side).view(side, side)
    rotated = torch.rot90(image, k=1, dims=(0, 1))
    views = [image, image.T, rotated, rotated.T][: directions // 2]
    forward = torch.stack([view.reshape(-1)[order] for view in views])
    return torch.cat([forward, forward.flip(1)])


def hybrid_routes(shares: tuple[tuple[str, int], ...], side: int) -> Int64[Tensor, "K L"]:
    """Routes of several scan methods, each with its number of directions, one method after the other.

    The paper's table 5 shares K = 8 routes among methods, and the published code has no such hybrids: that a method
    with n directions uses its first n routes is this project's reading.
    """
    return torch.cat([routes(method, directions, side) for method, directions in shares])


@lru_cache(maxsize=128)
def route_table(shares: tuple[tuple[str, int], ...], side: int, device: torch.device) -> Int64[Tensor, "K L"]:
    """`hybrid_routes` on a device, kept between calls; do not write into it."""
    with torch.inference_mode(False):  # or a table first made while predicting could not serve in training
        return hybrid_routes(shares, side).to(device)

"""Hybrid scanning: K routes through the feature map.  Paper: section 3.3, "HS encoder" and "HS decoder".

Axes: B batch, D channels, L = side * side tokens in image order (row * side + column), K scan routes.

A route visits every token once.  K = 2 runs through the image and back; K = 4 adds the transposed image, K = 8 its
rotation by 90 degrees and the transpose of that.  The K/2 forward routes come first, then the reversed ones in the
same order; the parameters of the published checkpoints are stacked like this.
"""

from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mambaad.model.scan_order import scan_order


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
def route_tables(shares: tuple[tuple[str, int], ...], side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The routes and their inverse permutations, each (K, L), kept between calls; do not write into them."""
    table = hybrid_routes(shares, side)
    return table.to(device), table.argsort(dim=1).to(device)


class _HSEncode(torch.autograd.Function):
    """A route is a permutation, so encode and decode are each other's adjoint: no scatter, no atomics."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(table, inverse)
        return _gather(x, table)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        table, inverse = ctx.saved_tensors
        return _HSDecode.apply(grads[0], table, inverse), None, None


class _HSDecode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, table: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(table, inverse)
        out = y[:, 0].index_select(1, inverse[0])
        for k in range(1, y.shape[1]):
            out += y[:, k].index_select(1, inverse[k])
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        table, inverse = ctx.saved_tensors
        return _HSEncode.apply(grads[0], table, inverse), None, None


def _gather(x: Tensor, table: Tensor) -> Tensor:
    return x.index_select(1, table.flatten()).unflatten(1, tuple(table.shape))


def hs_encode(
    x: Float[Tensor, "B L D"], table: Int64[Tensor, "K L"], inverse: Int64[Tensor, "K L"]
) -> Float[Tensor, "B K L D"]:
    """HS encoder: the tokens of an image in the visiting order of each route (`table`)."""
    return _HSEncode.apply(x, table, inverse)


def hs_decode(
    y: Float[Tensor, "B K L D"], table: Int64[Tensor, "K L"], inverse: Int64[Tensor, "K L"]
) -> Float[Tensor, "B L D"]:
    """HS decoder: every route back to image order (`inverse` = argsort of `table`), then the sum over the routes."""
    return _HSDecode.apply(y, table, inverse)

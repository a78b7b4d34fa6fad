"""HS encoder and HS decoder: tokens to route order and back.  Paper: section 3.3, "HS encoder" and "HS decoder".

Axes: B batch, L tokens in image order, D channels, K scan routes.
"""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor


class _HSEncode(torch.autograd.Function):
    """A route is a permutation, so encode and decode are each other's adjoint: no scatter, no atomics."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, routes: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(routes, inverse)
        return x.index_select(1, routes.flatten()).unflatten(1, tuple(routes.shape))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        routes, inverse = ctx.saved_tensors
        return _HSDecode.apply(grads[0], routes, inverse), None, None


class _HSDecode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, routes: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(routes, inverse)
        out = y[:, 0].index_select(1, inverse[0])
        for k in range(1, y.shape[1]):
            out += y[:, k].index_select(1, inverse[k])
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        routes, inverse = ctx.saved_tensors
        return _HSEncode.apply(grads[0], routes, inverse), None, None


def hs_encode(
    x: Float[Tensor, "B L D"], routes: Int64[Tensor, "K L"], inverse: Int64[Tensor, "K L"]
) -> Float[Tensor, "B K L D"]:
    """HS encoder: the tokens of an image in the visiting order of each route.

    Example:
        >>> routes = torch.tensor([[0, 1, 2], [2, 1, 0]])
        >>> hs_encode(torch.tensor([[[5.0], [6.0], [7.0]]]), routes, routes.argsort(dim=1))[0, 1, :, 0]
        tensor([7., 6., 5.])
    """
    return _HSEncode.apply(x, routes, inverse)


def hs_decode(
    y: Float[Tensor, "B K L D"], routes: Int64[Tensor, "K L"], inverse: Int64[Tensor, "K L"]
) -> Float[Tensor, "B L D"]:
    """HS decoder: every route back to image order (`inverse` = argsort of `routes`), then the sum over the routes.

    Example:
        >>> routes = torch.tensor([[0, 1, 2], [2, 1, 0]])
        >>> y = torch.tensor([[[[1.0], [2.0], [3.0]], [[30.0], [20.0], [10.0]]]])
        >>> hs_decode(y, routes, routes.argsort(dim=1))[0, :, 0]
        tensor([11., 22., 33.])
    """
    return _HSDecode.apply(y, routes, inverse)

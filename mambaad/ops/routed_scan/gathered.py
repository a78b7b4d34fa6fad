"""Routed scan by a backend that knows no routes: gather, any backend of `selective_scan`, scatter.

Axes: B batch, L tokens in image order, D channels, K scan routes, N state size, R rank of the step sizes, P = R + 2N.
"""

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor

from mambaad.ops.routed_scan.permute import hs_decode, hs_encode
from mambaad.ops.selective_scan import selective_scan


def routed_scan_gathered(
    x: Float[Tensor, "B L D"],
    projected: Float[Tensor, "B L K P"],
    routes: Int64[Tensor, "K L"],
    dt_proj: Float[Tensor, "K D R"],
    dt_bias: Float[Tensor, "K D"],
    A: Float[Tensor, "K D N"],
    D: Float[Tensor, "K D"],
    backend: str = "chunked",
) -> Float[Tensor, "B L D"]:
    """The function of `routed_scan_reference`, equal up to rounding; `backend` is one of `selective_scan`."""
    u, delta, B, C = in_route_order(x, projected, routes, dt_proj)
    y = selective_scan(u, delta, A, B, C, D, dt_bias, backend=backend)
    return hs_decode(rearrange(y, "b k d l -> b k l d"), routes, inverse_of(routes))


def in_route_order(
    x: Float[Tensor, "B L D"],
    projected: Float[Tensor, "B L K P"],
    routes: Int64[Tensor, "K L"],
    dt_proj: Float[Tensor, "K D R"],
) -> tuple[Float[Tensor, "B K D L"], Float[Tensor, "B K D L"], Float[Tensor, "B K N L"], Float[Tensor, "B K N L"]]:
    """u, delta, B and C of `selective_scan`: each route's tokens in visiting order."""
    rank = dt_proj.shape[2]
    size = (projected.shape[3] - rank) // 2
    k = torch.arange(routes.shape[0], device=routes.device)[:, None]
    u = hs_encode(x, routes, inverse_of(routes))
    dt, B, C = projected[:, routes, k].split((rank, size, size), dim=-1)
    delta = torch.einsum("bklr,kdr->bkld", dt, dt_proj)
    u, delta, B, C = (rearrange(v, "b k l c -> b k c l") for v in (u, delta, B, C))
    return u, delta, B, C


def inverse_of(routes: Int64[Tensor, "K L"]) -> Int64[Tensor, "K L"]:
    """Step at which route k visits each token: the argsort of a permutation, without sorting."""
    steps = torch.arange(routes.shape[1], device=routes.device).expand_as(routes)
    return torch.empty_like(routes).scatter_(1, routes, steps)

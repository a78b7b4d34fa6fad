"""Routed scan as the paper draws it: HS encoder, selective scan of each route, HS decoder.  Section 3.3, figure 2 (c).

Axes: B batch, L tokens in image order, D channels, K scan routes, N state size, R rank of the step sizes, P = R + 2N.
"""

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor

from mambaad.ops.routed_scan.permute import hs_decode, hs_encode
from mambaad.ops.selective_scan import selective_scan


def routed_scan_defined(
    x: Float[Tensor, "B L D"],
    projected: Float[Tensor, "B L K P"],
    table: Int64[Tensor, "K L"],
    dt_proj: Float[Tensor, "K D R"],
    dt_bias: Float[Tensor, "K D"],
    A: Float[Tensor, "K D N"],
    D: Float[Tensor, "K D"],
    scan: str = "reference",
) -> Float[Tensor, "B L D"]:
    """`routed_scan` in readable form: gather, scan, scatter.  `scan` is a backend of `selective_scan`."""
    rank, size = dt_proj.shape[2], A.shape[2]
    steps = torch.arange(table.shape[1], device=table.device).expand_as(table)
    inverse = torch.empty_like(table).scatter_(1, table, steps)
    route = torch.arange(table.shape[0], device=table.device)[:, None]

    u = hs_encode(x, table, inverse)
    dt, B, C = projected[:, table, route].split((rank, size, size), dim=-1)  # each in its route's own order
    delta = torch.einsum("bklr,kdr->bkld", dt, dt_proj)
    y = selective_scan(
        u=rearrange(u, "b k l d -> b k d l"),
        delta=rearrange(delta, "b k l d -> b k d l"),
        A=A,
        B=rearrange(B, "b k l n -> b k n l"),
        C=rearrange(C, "b k l n -> b k n l"),
        D=D,
        delta_bias=dt_bias,
        backend=scan,
    )
    return hs_decode(rearrange(y, "b k d l -> b k l d"), table, inverse)

"""Routed scan, sequential definition: HS encoder, recurrence, HS decoder.  Paper: sections 3.1 and 3.3, figure 2 (c).

Axes: B batch, L tokens in image order, K scan routes, D channels, N state size, R rank of the step sizes, P = R + 2N.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor


def routed_scan_reference(
    x: Float[Tensor, "B L D"],
    projected: Float[Tensor, "B L K P"],
    routes: Int64[Tensor, "K L"],
    dt_proj: Float[Tensor, "K D R"],
    dt_bias: Float[Tensor, "K D"],
    A: Float[Tensor, "K D N"],
    D: Float[Tensor, "K D"],
) -> Float[Tensor, "B L D"]:
    """Route k visits token p = routes[k, t] at step t; with (dt, B, C) = projected[:, p, k], all routes side by side:

    δ_t = softplus(dt_proj dt + dt_bias),   h_t = exp(δ_t A) h_{t-1} + δ_t B x_p,   y_p += <C, h_t> + D x_p,   h_0 = 0.

    Computes in float64 if x is float64, else in float32, and returns x's dtype.  Plain autograd differentiates it.
    """
    output_dtype = x.dtype
    dtype = torch.float64 if output_dtype == torch.float64 else torch.float32
    x, projected, dt_proj, dt_bias, A, D = (v.to(dtype) for v in (x, projected, dt_proj, dt_bias, A, D))
    (K, _, R), N = dt_proj.shape, A.shape[2]

    u = x[:, routes]  # HS encoder: gather the tokens in the order of each route, (B, K, L, D)
    dt, B, C = projected[:, routes, torch.arange(K)[:, None]].split((R, N, N), dim=-1)  # (B, K, L, R), (B, K, L, N)
    delta = F.softplus(torch.einsum("bklr,kdr->bkld", dt, dt_proj) + dt_bias[:, None])
    h, y = u.new_zeros(*u.shape[:2], *A.shape[1:]), []
    # unbind, not v[:, :, t]: the gradient of an index is a full-length array, so L of them cost L^2.
    for u_t, delta_t, B_t, C_t in zip(*(v.unbind(2) for v in (u, delta, B, C)), strict=True):
        h = torch.exp(delta_t[..., None] * A) * h + (delta_t * u_t)[..., None] * B_t[:, :, None, :]
        y.append((h * C_t[:, :, None, :]).sum(-1) + D * u_t)
    outputs = torch.stack(y, dim=2).flatten(1, 2)  # (B, K L, D)
    # HS decoder: add every output to its token
    return torch.zeros_like(x).index_add(1, routes.flatten(), outputs).to(output_dtype)

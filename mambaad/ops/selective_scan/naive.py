"""Selective scan, sequential definition.  Paper: preliminaries (section 3.1), equations 1 to 3.

Axes: B batch, K scan routes, D inner channels, N state size, L sequence length.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def selective_scan_reference(
    u: Float[Tensor, "B K D L"],
    delta: Float[Tensor, "B K D L"],
    A: Float[Tensor, "K D N"],
    B: Float[Tensor, "B K N L"],
    C: Float[Tensor, "B K N L"],
    D: Float[Tensor, "K D"],
    delta_bias: Float[Tensor, "K D"],
) -> Float[Tensor, "B K D L"]:
    """h_t = exp(δ_t A) h_{t-1} + δ_t B_t u_t,   y_t = <C_t, h_t> + D u_t,   δ = softplus(delta + delta_bias).

    h_0 = 0, and B is discretised as δB (README.md, "Discretisation").  Computes in float64 if u is float64, else in
    float32, and returns u's dtype.  Plain autograd differentiates it.
    """
    output_dtype = u.dtype
    dtype = torch.float64 if output_dtype == torch.float64 else torch.float32
    u, delta, A, B, C, D, delta_bias = (x.to(dtype) for x in (u, delta, A, B, C, D, delta_bias))
    delta = F.softplus(delta + delta_bias[..., None])
    h = u.new_zeros(*u.shape[:3], A.shape[-1])
    y = []
    # unbind, not x[..., t]: the gradient of an index is a full-length array, so L of them cost L^2.
    for u_t, delta_t, B_t, C_t in zip(u.unbind(-1), delta.unbind(-1), B.unbind(-1), C.unbind(-1), strict=True):
        decay = torch.exp(delta_t[..., None] * A)
        drive = (delta_t * u_t)[..., None] * B_t[:, :, None, :]
        h = decay * h + drive
        y.append((h * C_t[:, :, None, :]).sum(-1))
    return (torch.stack(y, dim=-1) + D[..., None] * u).to(output_dtype)

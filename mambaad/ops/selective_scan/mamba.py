"""Selective scan by the CUDA kernel of the package mamba_ssm, where that is installed.  Theory: README.md.

Axes: B batch, K scan routes, D inner channels, N state size, L sequence length.
"""

import importlib.util

import torch
from jaxtyping import Float
from torch import Tensor


def unavailable() -> str | None:
    """Why `selective_scan_mamba` cannot run here and what to do about it, in one sentence; None if it can."""
    if importlib.util.find_spec("mamba_ssm") is None:
        return (
            "the mamba_ssm backend needs the package mamba_ssm; install it with a CUDA compiler at hand "
            "(pip install mamba-ssm) or take another backend"
        )
    if not torch.cuda.is_available():
        return "the mamba_ssm backend needs a CUDA device and torch sees none; take another backend"
    return None


def selective_scan_mamba(
    u: Float[Tensor, "B K D L"],
    delta: Float[Tensor, "B K D L"],
    A: Float[Tensor, "K D N"],
    B: Float[Tensor, "B K N L"],
    C: Float[Tensor, "B K N L"],
    D: Float[Tensor, "K D"],
    delta_bias: Float[Tensor, "K D"],
) -> Float[Tensor, "B K D L"]:
    """The function of `selective_scan_reference`, in float32: the K routes are K groups of the kernel's channels.

    Returns y in u's dtype, differentiable (once) with respect to all seven tensors.  The kernel adds up some gradients
    by atomic operations, so they are not equal to the bit from call to call.

    Raises:
        ImportError: mamba_ssm is not installed or does not load (`unavailable` tells the former beforehand).
        ValueError: float64, which the kernel does not have.
    """
    if u.dtype == torch.float64:
        raise ValueError(
            "the mamba_ssm backend computes in float32, got u in float64; convert it or take another backend"
        )
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    values, steps, rate, entering, leaving, skip, bias = (x.float() for x in (u, delta, A, B, C, D, delta_bias))
    y = selective_scan_fn(
        values.flatten(1, 2).contiguous(),  # (B, K D, L)
        steps.flatten(1, 2).contiguous(),
        rate.flatten(0, 1),  # (K D, N)
        entering.contiguous(),
        leaving.contiguous(),
        D=skip.flatten(),
        z=None,
        delta_bias=bias.flatten(),
        delta_softplus=True,
    )
    return y.reshape(u.shape).to(u.dtype)

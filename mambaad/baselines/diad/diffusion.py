"""Noise schedule and sampling.  Axes: see the package.

A latent at time t is sqrt(a) z + sqrt(1 - a) noise, with a = `alphas_cumprod`[t] falling from nearly 1.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

BETAS = (0.00085, 0.012)
"""Of the first and the last of the steps; their roots lie on a line."""


def alphas_cumprod(steps: int) -> NDArray[np.float64]:
    """The share of the latent's variance that is left at each time.

    Example:
        >>> a = alphas_cumprod(1000)
        >>> f"{a[0]:.5f} {a[999]:.5f}"
        '0.99915 0.00466'
    """
    betas = np.linspace(BETAS[0] ** 0.5, BETAS[1] ** 0.5, steps) ** 2
    return np.cumprod(1 - betas)


def add_noise(z: Float[Tensor, "B 4 h h2"], noise: Float[Tensor, "B 4 h h2"], a: float | Tensor) -> Tensor:
    """The latents at the time whose share is `a`, a number or one per latent as (B, 1, 1, 1)."""
    return a**0.5 * z + (1 - a) ** 0.5 * noise


def ddim_times(steps: int, samples: int) -> list[int]:
    """The times at which the denoiser is asked, last first.

    Example:
        >>> ddim_times(1000, 10)
        [901, 801, 701, 601, 501, 401, 301, 201, 101, 1]
    """
    return list(range(1, steps, steps // samples))[:samples][::-1]


def ddim_step(z: Tensor, noise: Tensor, a: float, a_next: float) -> Tensor:
    """From the share `a` to `a_next`, without new noise: Song et al., equation 12, with sigma = 0."""
    clean = (z - (1 - a) ** 0.5 * noise) / a**0.5
    return a_next**0.5 * clean + (1 - a_next) ** 0.5 * noise


def ddim(
    z: Float[Tensor, "B 4 h h2"], shares: NDArray[np.float64], times: Sequence[int], noise_in: Callable[..., Tensor]
) -> Float[Tensor, "B 4 h h2"]:
    """Latents without their noise.

    Args:
        z: noisy latents.
        shares: `alphas_cumprod`.
        times: of `ddim_times`; the last step leads to the share at time 0.
        noise_in: latents and their time -> the noise in them.
    """
    for t, following in zip(times, [*times[1:], 0], strict=True):
        z = ddim_step(z, noise_in(z, t), float(shares[t]), float(shares[following]))
    return z

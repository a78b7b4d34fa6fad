"""The hybrid state space block.  Paper: section 3.3, figure 2 (c).

Axes: B batch, H = W side in tokens, C block width, D = 2C inner width, L = H * W, K scan routes, N state size,
R = ceil(C / 16) rank of the step size projection.
"""

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mambaad.model.routes import cached_routes
from mambaad.ops.routed_scan import Backend, routed_scan

DT_MIN, DT_MAX, DT_FLOOR = 1e-3, 1e-1, 1e-4  # range of the initial step sizes (Mamba's)


class SS2D(nn.Module):
    """Selective scan of an image along K routes, with Mamba's gate.

    Args:
        width: C.
        scan: the routes, as (scan method, number of its routes) pairs.

    The scan runs in float32 whatever the autocast precision: its state sums over thousands of steps.
    """

    def __init__(self, width: int, scan: tuple[tuple[str, int], ...], state_size: int = 16) -> None:
        super().__init__()
        inner, rank, k = 2 * width, math.ceil(width / 16), sum(n for _, n in scan)
        self.scan = scan
        self.sizes = (rank, state_size, state_size)  # dt, B, C
        self.backend: Backend = "auto"  # see `MambaAD.set_scan_backend`
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.x_proj = nn.Parameter(torch.empty(k, sum(self.sizes), inner))
        self.dt_proj = nn.Parameter(torch.empty(k, inner, rank))
        self.dt_bias = nn.Parameter(torch.empty(k, inner))
        self.A_log = nn.Parameter(torch.empty(k, inner, state_size))
        self.D = nn.Parameter(torch.empty(k, inner))
        self.norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, width, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Mamba's initial values; the bare parameters are not touched by the decoder's general rule."""
        k, inner, rank = self.dt_proj.shape
        nn.init.uniform_(self.x_proj, -(inner**-0.5), inner**-0.5)
        nn.init.uniform_(self.dt_proj, -(rank**-0.5), rank**-0.5)
        with torch.no_grad():
            log_dt = torch.empty(k, inner).uniform_(math.log(DT_MIN), math.log(DT_MAX))
            dt = log_dt.exp().clamp(min=DT_FLOOR)
            self.dt_bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # inverse of softplus
            self.A_log.copy_(torch.arange(1, self.A_log.shape[2] + 1).log().expand_as(self.A_log))
            self.D.fill_(1)

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        x, z = self.in_proj(x).chunk(2, dim=-1)
        x = F.silu(self.conv(rearrange(x, "b h w d -> b d h w")))
        y = self.scan_routes(rearrange(x, "b d h w -> b (h w) d"))
        y = self.norm(y.view_as(z)).to(z.dtype)
        return self.out_proj(y * F.silu(z))

    def scan_routes(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """HS encoder, selective scan of each route, HS decoder: written out in `mambaad/ops/routed_scan/naive.py`.

        Each token is projected once for all routes, in image order, since a projection does not depend on the order.
        """
        routes = cached_routes(self.scan, math.isqrt(x.shape[1]), x.device)
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            projected = F.linear(x, self.x_proj.flatten(0, 1)).unflatten(-1, self.x_proj.shape[:2])
            A = -torch.exp(self.A_log)
            return routed_scan(x, projected, routes, self.dt_proj, self.dt_bias, A, self.D, backend=self.backend)


class DropPath(nn.Module):
    """Stochastic depth: in training, leaves out a residual branch for each image with probability `drop_prob`.

    The branches that stay are divided by 1 - drop_prob, so that their expectation is that of evaluation.
    """

    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        if self.drop_prob == 0.0 or not self.training:
            return x
        keep = 1 - self.drop_prob
        return x * x.new_empty(len(x), 1, 1, 1).bernoulli_(keep).div_(keep)


class HSSBlock(nn.Module):
    """x + DropPath(SS2D(LayerNorm(x)))."""

    def __init__(
        self, width: int, scan: tuple[tuple[str, int], ...], state_size: int = 16, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.ss2d = SS2D(width, scan, state_size)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        return x + self.drop_path(self.ss2d(self.norm(x)))

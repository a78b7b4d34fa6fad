"""Batch normalisation over the whole batch when several processes share it.

torch's own SyncBatchNorm needs CUDA; this one runs wherever the processes can add tensors, so that one, two and three
processes train alike.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _Sum(torch.autograd.Function):
    """Sum over the processes.  Each process's tensor moves every process's loss, so gradients are summed, too."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _summed(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _summed(gradient)


def _summed(value: Tensor) -> Tensor:
    total = value.clone(memory_format=torch.contiguous_format)
    torch.distributed.all_reduce(total)
    return total


class SharedBatchNorm(_BatchNorm):
    """Statistics of the batch over all processes, (B, C) or (B, C, H, W), each with the same number of images.

    `then`, where it is set, is applied to what is normalised: some of timm's layers hold an activation.
    """

    def __init__(self, features: int, eps: float, momentum: float | None, affine: bool, tracked: bool) -> None:
        super().__init__(features, eps, momentum, affine, tracked)
        self.then: nn.Module = nn.Identity()

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() not in (2, 4):
            raise ValueError(f"expected (B, C) or (B, C, H, W), got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            normalised: Tensor = super().forward(input)
            return cast(Tensor, self.then(normalised))
        self._check_input_dim(input)
        given = input.dtype
        input = input.to(torch.promote_types(given, torch.float32))  # of half precision sums would be coarse
        over = [axis for axis in range(input.dim()) if axis != 1]
        along = [1, -1] + [1] * (input.dim() - 2)
        values = input.numel() // input.shape[1] * torch.distributed.get_world_size()
        mean = _Sum.apply(input.sum(over)) / values
        centred = input - mean.view(along)
        variance = _Sum.apply(centred.square().sum(over)) / values
        if self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
                momentum = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)  # type: ignore[arg-type]
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(variance * values / max(values - 1, 1), momentum)
        normalised = centred * torch.rsqrt(variance + self.eps).view(along)
        if self.affine:
            normalised = normalised * self.weight.view(along) + self.bias.view(along)
        return cast(Tensor, self.then(normalised.to(given)))


def share_batch_statistics(model: nn.Module) -> None:
    """Replace every BatchNorm that learns by a shared one with the same parameters, buffers and keys.

    Those of a frozen encoder stay: they have their statistics.

    Raises ValueError for a layer that does more than normalise, in a way that is not known here.
    """
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if not isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                continue
            if child.training or any(parameter.requires_grad for parameter in child.parameters()):
                if type(child) not in (nn.BatchNorm1d, nn.BatchNorm2d, BatchNormAct2d):
                    raise ValueError(
                        f"{name}: expected torch's BatchNorm or timm's BatchNormAct2d, got {type(child).__name__}; "
                        "train in one process, or with another encoder"
                    )
                shared = SharedBatchNorm(
                    child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats
                )
                shared.load_state_dict(child.state_dict())
                shared.train(child.training)
                for own, other in zip(shared.parameters(), child.parameters(), strict=True):
                    own.requires_grad_(other.requires_grad)
                if isinstance(child, BatchNormAct2d):
                    shared.then = nn.Sequential(child.drop, child.act)
                setattr(parent, name, shared)

"""Pieces that several methods share.

Axes: B batch, S image side in pixels.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradient for the time of the context; the model's mode is left as it was."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def check_images(images: Float[Tensor, "B 3 S S2"], multiple: int = 32) -> int:
    """The side of square images.  Raises ValueError if it is not a multiple of `multiple` pixels."""
    height, width = images.shape[-2:]
    if height != width or height % multiple:
        raise ValueError(f"images must be square with a side divisible by {multiple} pixels, got {height} x {width}")
    return height


def kaiming_fan_out(module: nn.Module) -> None:
    """Initial values of every convolution as in ResNets; transposed convolutions keep torch's."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            nn.init.kaiming_normal_(child.weight, mode="fan_out", nonlinearity="relu")

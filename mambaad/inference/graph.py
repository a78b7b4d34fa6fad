"""What an exported graph computes: everything from an image's pixels to the map, the score and the verdict."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from mambaad.baselines import Method
from mambaad.inference.threshold import limit
from mambaad.model import MambaAD


class Whole(nn.Module):
    """Images -> anomaly maps (B, S, S), scores (B,), with a threshold verdicts (B,), with `features` the decoder's.

    Images are RGB: uint8 (B, S, S, 3), or float in 0..1, (B, 3, S, S).
    """

    def __init__(
        self, model: Method, backend: str = "auto", features: bool = False, threshold: float | None = None
    ) -> None:
        super().__init__()
        self.model: Any = copy.deepcopy(model).to("cpu")
        self.features = features and isinstance(self._network(), MambaAD)
        self.threshold = threshold
        if hasattr(model, "set_scan_backend"):
            self.model.set_scan_backend(backend)
        self.eval().requires_grad_(False)

    def _network(self) -> Any:
        """The model, or of a method that has MambaAD as a part, that part."""
        return getattr(self.model, "network", self.model)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if images.dtype == torch.uint8:
            images = images.permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (self.model.config.mean, self.model.config.std))
        found: list[Tensor] = []
        hook = None
        if self.features:
            decoder = self._network().decoder
            hook = decoder.register_forward_hook(lambda module, inputs, outputs: found.extend(outputs))
        maps, scores = self.model.predict((images - mean) / std)
        if hook is not None:
            hook.remove()
        verdicts = () if self.threshold is None else (scores > limit(self.threshold),)
        return (maps, scores, *verdicts, *found)


def traced(
    model: Method, images: Tensor, *, backend: str, features: bool = False, threshold: float | None = None
) -> torch.export.ExportedProgram:
    """The whole computation as a graph of torch operations, for images like `images`, of its side, and any batch.

    `backend` is the scan's, one that is made for graphs.  With `features` it also puts out the features (B, C, h, w) of
    MambaAD's decoder, shallowest first, if it has one.
    """
    # channels_last weights have no complete storage of their own, which torch.export.save warns of
    whole = Whole(model, backend, features, threshold).to(memory_format=torch.contiguous_format)
    with torch.no_grad():
        whole(images[:1])  # fills the caches of scan tables: filled while tracing, they would hold no values
        return torch.export.export(whole, (images[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False)

"""What training, evaluation and prediction ask of a method, MambaAD and the others alike.

Axes: B batch, S image side in pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from mambaad.config import TrainConfig
from mambaad.model.anomaly_map import image_score
from mambaad.model.encoder import Encoder
from mambaad.model.mambaad import Prediction


@runtime_checkable
class Method(Protocol):
    """Every method is an `nn.Module`, built as `METHOD(config, weights)`, with these attributes.

    Its config has at least `backbone`, `backbone_kwargs`, and the `mean` and `std` that images are normalised with.
    """

    config: Any
    if TYPE_CHECKING:
        # not at run time: isinstance would look for it, from Python 3.12 on without nn.Module's __getattr__, which is
        # what finds a part of a module
        encoder: Encoder

    def predict(self, images: Float[Tensor, "B 3 S S"]) -> Prediction:
        """Anomaly maps and scores of normalised images, in eval mode, without gradient; the mode is left as it was."""
        ...

    # -- the rest is nn.Module's
    def train(self, mode: bool = ...) -> Any: ...
    def eval(self) -> Any: ...
    def to(self, *args: Any, **kwargs: Any) -> Any: ...
    def parameters(self) -> Iterable[Any]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Any) -> Any: ...


def scores_of(method: Method, maps: Float[Tensor, "B H W"]) -> Float[Tensor, " B"]:
    """Image scores of a method's maps, which may have been joined from tiles or cut to a region: the maximum, after an
    average over `method.score_pool` pixels where a method has such a number, as UniAD does."""
    return image_score(maps, getattr(method, "score_pool", 1))


@runtime_checkable
class TrainedMethod(Method, Protocol):
    """A method that learns by gradients."""

    def loss(self, images: Float[Tensor, "B 3 S S"], progress: float) -> Float[Tensor, ""]:
        """Scalar training loss of normalised defect-free images; `progress` is the share of steps done, 0..1, for
        methods that train in phases."""
        ...

    def optimizers(self, train: TrainConfig) -> list[Optimizer]:
        """Each with its peak learning rates.  All of them step on the gradients of one backward pass; parameters
        without a gradient stay as they are."""
        ...


@runtime_checkable
class TexturedMethod(TrainedMethod, Protocol):
    """Such a method, painting anomalies into its images."""

    def use_textures(self, folder: Path | None) -> None:
        """Get ready to train with the textures in a folder, which its config names; None: with procedural ones."""
        ...


@runtime_checkable
class EncodingMethod(Method, Protocol):
    """A method whose training needs no more of an image than its encoder's features, so that they can be cached."""

    def encode(self, images: Float[Tensor, "B 3 S S"]) -> list[Tensor]:
        """Normalised images -> encoder features (B, c, S/stride, S/stride), one per `encoder.strides`."""
        ...


@runtime_checkable
class FeatureMethod(TrainedMethod, EncodingMethod, Protocol):
    """Such a method, learning by gradients."""

    def loss_from_features(self, features: Sequence[Tensor]) -> Float[Tensor, ""]:
        """`loss`, for features computed before."""
        ...


@runtime_checkable
class FittedMethod(EncodingMethod, Protocol):
    """Such a method, learning in one pass over the images, without gradients."""

    def fit(self, batches: Iterable[Sequence[Tensor]], images: int, side: int, seed: int) -> None:
        """Learn from the encoder features of all images, once each, batch by batch."""
        ...


@runtime_checkable
class FinishedMethod(FeatureMethod, Protocol):
    """Such a method that, after the last step, learns something more without gradients."""

    def finish(self, images: Iterable[Tensor], held: Iterable[Tensor], number: int, side: int, seed: int) -> None:
        """Learn from `number` normalised training images (B, 3, side, side), and from those held out."""
        ...

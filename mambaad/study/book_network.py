"""The small trained network that the explaining chapters look into: the quick profile's, at 128 pixels, trained longer.

It has seen synthetic images only.  Its weights come with the package, as float16 and without the encoder's, which are
the embedded ones; `results/book/runs` has the record of its training.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from mambaad.config import ModelConfig, RunConfig
from mambaad.data.synthetic.generate import draw
from mambaad.files import atomic_path, write_json
from mambaad.model import MambaAD
from mambaad.model.encoder_weights import ASSETS
from mambaad.study.profiles import quick_base

WEIGHTS = ASSETS / "book_network.safetensors"
PROFILE = "own"
EXAMPLE_INDEX = 51  # of the drawing: from 50 on, none is in the network's training or test set


def book_run() -> RunConfig:
    """The settings of the book's network."""
    base = quick_base()
    return dataclasses.replace(
        base,
        data=dataclasses.replace(base.data, side=128, synthetic_train=60),
        train=dataclasses.replace(base.train, steps=800, warmup_steps=40, decay_at=0.7),
    )


class Example(NamedTuple):
    """A defective image, the good image of the same part, and where the two differ."""

    image: Float[Tensor, "3 S S"]
    good_twin: Float[Tensor, "3 S S"]
    mask: Bool[Tensor, "S S"]
    words: str


def example_image(category: str = "gear", defect: str = "missing", index: int = EXAMPLE_INDEX) -> Example:
    """An image that the network was neither trained nor tested on; by default the one that all chapters return to.

    Values are in 0..1.  Outside the mask, image and twin are equal bit by bit.
    """
    side = book_run().data.side
    drawn, mask = draw(category, side, split="test", index=index, defect=defect)
    good, _ = draw(category, side, split="test", index=index)
    image, twin = (torch.from_numpy(x).permute(2, 0, 1) / 255 for x in (drawn, good))
    return Example(image, twin, torch.from_numpy(mask), f"{category}, {defect}")


def untrained_network() -> MambaAD:
    """The same network before its training, as its run began."""
    run = book_run()
    assert isinstance(run.model, ModelConfig)
    torch.manual_seed(run.train.seed)
    return MambaAD(run.model, weights=run.encoder_weights).eval()


def book_network() -> MambaAD:
    """The trained network, in eval mode.

    Raises:
        ValueError: the file is not the one that its description names, or does not fit.
    """
    described = json.loads(WEIGHTS.with_suffix(".json").read_text(encoding="utf-8"))
    found = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    if found != described["sha256"]:
        raise ValueError(f"{WEIGHTS.name} has the SHA-256 {found}, expected {described['sha256']}: install it again")
    model = untrained_network()
    state = {name: tensor.float() for name, tensor in load_file(WEIGHTS).items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    missing = [name for name in missing if _stored(name)]
    if unexpected or missing:
        raise ValueError(f"{WEIGHTS.name} does not fit: missing {missing}, unexpected {unexpected}")
    return model.eval()


def save_book_network(state: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write the weights and their description, with the hash of the file.

    Args:
        state: state dict of the trained network.
        about: what the description says besides.
    """
    kept = {name: tensor.half().contiguous() for name, tensor in state.items() if _stored(name)}
    with atomic_path(WEIGHTS) as temporary:
        save_file(kept, temporary)
    sha256 = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    write_json(WEIGHTS.with_suffix(".json"), {"sha256": sha256, **about})


def _stored(name: str) -> bool:
    """The encoder is frozen and embedded; the counters of batch normalisation are not used."""
    return not name.startswith("encoder.") and not name.endswith("num_batches_tracked")

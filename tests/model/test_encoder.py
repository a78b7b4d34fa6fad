"""Encoders: their weights, from a file, the hub or a package, and what is refused."""

from pathlib import Path
from typing import Any, Never

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mambaad.data import Sample, load_dataset
from mambaad.data.image_set import ImageSet
from mambaad.metrics import auroc
from mambaad.model import Encoder, EncoderWeightsError
from mambaad.model.encoder import check_batch
from mambaad.model.encoder_weights import weights_file_name


def test_encoder_weights_from_files_are_those_of_the_file(tmp_path: Path) -> None:
    full: Any = timm.create_model("resnet18", pretrained=False, channels=(8, 16, 32, 64))
    save_file(full.state_dict(), tmp_path / "w.safetensors")
    torch.save(full.state_dict(), tmp_path / "w.pth")
    for name in ("w.safetensors", "w.pth"):
        encoder = Encoder("resnet18", tmp_path / name, {"channels": (8, 16, 32, 64)})
        image = torch.randn(1, 3, 64, 64)
        with torch.no_grad():
            wanted = full.eval().forward_intermediates(image, indices=(1, 2, 3), intermediates_only=True)
        for a, b in zip(encoder(image), wanted, strict=True):
            assert torch.allclose(a, b, atol=1e-5)
    assert weights_file_name(tmp_path / "w.pth").startswith("w.pth@")


def test_weights_that_do_not_fit_are_refused_with_the_tensors(tmp_path: Path) -> None:
    deeper = timm.create_model("resnet34", pretrained=False, channels=(8, 16, 32, 64))
    save_file(deeper.state_dict(), tmp_path / "deeper.safetensors")
    with pytest.raises(EncoderWeightsError, match=r"without a place .first: layer1\.2"):
        Encoder("resnet18", tmp_path / "deeper.safetensors", {"channels": (8, 16, 32, 64)})
    shallow = timm.create_model("resnet18", pretrained=False, channels=(8, 16, 32, 64))
    save_file(shallow.state_dict(), tmp_path / "shallow.safetensors")
    with pytest.raises(EncoderWeightsError, match=r"missing .first: layer1\.2"):
        Encoder("resnet34", tmp_path / "shallow.safetensors", {"channels": (8, 16, 32, 64)})
    with pytest.raises(EncoderWeightsError, match="of another shape"):
        Encoder("resnet34", tmp_path / "deeper.safetensors")
    with pytest.raises(EncoderWeightsError, match="does not exist"):
        Encoder("resnet18", tmp_path / "nowhere.pth")


def test_unreachable_hub_is_one_sentence_with_the_ways_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unreachable(*_: object, **__: object) -> Never:
        raise OSError("no route to host")

    real = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: unreachable() if k.get("pretrained") else real(*a, **k))
    with pytest.raises(EncoderWeightsError, match=r"could not be reached: pass a local .safetensors") as caught:
        Encoder("resnet18", "resnet18.tv_in1k")
    assert "random" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(EncoderWeightsError, match="are not of the backbone 'resnet18'"):
        Encoder("resnet18", "resnet34.bt_in1k")
    with pytest.raises(EncoderWeightsError, match=r"'w\.pth@0123' are those of a local file: give that file"):
        Encoder("resnet18", "w.pth@0123")
    with pytest.raises(EncoderWeightsError, match="timm knows no weights"):
        Encoder("resnet18", "resnet18.nobody_knows")


def test_backbones_without_the_strides_are_refused() -> None:
    with pytest.raises(ValueError, match="without a weights tag"):
        Encoder("resnet34.bt_in1k")
    with pytest.raises(ValueError, match="features at strides"):
        Encoder("convnext_atto", "random", {"stem_type": "patch", "patch_size": 8})


@pytest.mark.parametrize("backbone", ["dla34", "tresnet_m", "resnet18", "efficientnet_lite0", "vgg11_bn"])
def test_features_have_the_strides_that_were_asked_for(backbone: str) -> None:
    """Some networks of timm count their features from 1."""
    encoder = Encoder(backbone, "random")
    assert encoder.net.feature_info.reduction() == [4, 8, 16]
    assert [feature.shape[-1] for feature in encoder(torch.zeros(1, 3, 64, 64))] == [16, 8, 4]


@pytest.mark.parametrize("backbone", ["convnext_atto", "densenet121", "repvgg_a0"])
def test_weights_of_networks_whose_names_timm_joins_are_found(backbone: str, tmp_path: Path) -> None:
    full: Any = timm.create_model(backbone, pretrained=False)
    save_file(full.state_dict(), tmp_path / "w.safetensors")
    encoder = Encoder(backbone, tmp_path / "w.safetensors")
    own = {key.replace(".", "_"): value for key, value in full.state_dict().items()}
    for key, value in encoder.net.state_dict().items():
        assert torch.equal(value, own[key.replace(".", "_")]), key


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"pretrained": True}, "must not hold pretrained"),
        ({"checkpoint_path": "any.pth"}, "must not hold checkpoint_path"),
        ({"out_indices": [0], "features_only": True}, "must not hold features_only, out_indices"),
        ({"foo": 1}, "does not take backbone_kwargs .*foo"),
    ],
)
def test_settings_of_a_checkpoint_neither_download_nor_open_files(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Encoder("resnet18", "random", kwargs)


@pytest.mark.parametrize(
    "images", [torch.zeros(3, 64, 64), torch.zeros(2, 1, 64, 64), torch.zeros(2, 3, 64, 64, dtype=torch.uint8)]
)
def test_what_is_no_batch_of_images_is_refused(images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"normalised floats of shape \(B, 3, S, S\), got (float32|uint8) of shape"):
        check_batch(images)


def test_stages_after_stride_16_are_not_built() -> None:
    encoder = Encoder("mobilenetv2_100", "random")
    assert len(encoder.net.blocks) == 5
    assert encoder.channels == (24, 32, 96)
    assert not any(key.startswith("layer4") for key in Encoder("resnet18").net.state_dict())


PRETRAINED = "weights/mobilenetv2_100_imagenet_stride16.safetensors"


def test_pretrained_weights_are_loaded_tensor_by_tensor(shared: Path) -> None:
    encoder = Encoder("mobilenetv2_100", shared / PRETRAINED, {"pad_type": "same"})
    stored, loaded = load_file(shared / PRETRAINED), encoder.net.state_dict()
    assert {key for key in loaded if not key.endswith("num_batches_tracked")} <= set(stored)
    assert all(torch.equal(loaded[key], stored[key]) for key in loaded if key in stored)


def defect_auroc(encoder: Encoder, samples: list[Sample]) -> float:
    """AU-ROC of eight good and eight broken parts, each scored by its patch farthest from those of eight good ones."""
    images = ImageSet(samples, 128, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

    def patches(chosen: list[int]) -> Tensor:
        with torch.no_grad():
            return encoder(torch.stack([images[i][0] for i in chosen]))[1].flatten(2).mT  # stride 8, (n, 256, C)

    known = patches([i for i, s in enumerate(samples) if s.split == "train"][:8]).flatten(0, 1)
    good = [i for i, s in enumerate(samples) if s.split == "test" and not s.is_defect][:8]
    broken = [i for i, s in enumerate(samples) if s.is_defect][:8]
    scores = [torch.cdist(own, known).amin(1).max().item() for own in patches(good + broken)]
    return auroc([0] * len(good) + [1] * len(broken), scores)


def test_pretrained_weights_separate_broken_bottles_from_good_ones_and_random_ones_do_not(shared: Path) -> None:
    samples = load_dataset("mvtec_ad", shared / "data" / "mvtec", ["bottle"])
    pretrained, random = (
        defect_auroc(Encoder("mobilenetv2_100", weights, {"pad_type": "same"}), samples)
        for weights in (shared / PRETRAINED, "random")
    )
    assert pretrained == 1
    assert random < 0.95

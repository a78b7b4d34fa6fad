"""The network: shapes, normalisation, ablations, initial values and errors; with a small encoder to be quick."""

import math

import numpy as np
import pytest
import scipy.ndimage
import timm
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

import mambaad
from mambaad.config import ModelConfig
from mambaad.model import Encoder, EncoderWeightsError, HSSBlock, LSSModule, reconstruction_loss
from mambaad.model.anomaly_map import anomaly_map, gaussian_filter
from mambaad.model.encoder_weights import weights_file_name
from mambaad.model.half_fpn import Bottleneck, HalfFPN
from mambaad.model.lss import local_branch
from mambaad.ops.routed_scan import routed_scan

SMALL = {"backbone": "resnet18", "backbone_kwargs": {"channels": (8, 16, 32, 64)}, "depths": (2, 2, 2, 2)}
HYBRID = {"scan": (("sweep", 4), ("hilbert", 4))}


def small(**changes) -> mambaad.MambaAD:
    return mambaad.MambaAD(ModelConfig(**{**SMALL, **changes}), weights="random")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"branches": "global"},
        {"branches": "local"},
        {"scan": "zigzag", "directions": 2},
        HYBRID,
        {"local_kernels": (1, 3, 5, 7), "local_conv": "dwconv"},
        {"skip": False, "hss_per_lss": 1},
        {"depths": (3, 2, 1, 3), "hss_per_lss": 1},
        {"state_size": 4},
        {"backbone": "mobilenetv2_050", "backbone_kwargs": {"pad_type": "same"}},
    ],
)
def test_features_match_the_encoder_at_every_scale_and_all_parameters_learn(changes):
    model = small(**changes)
    encoder, decoder = model(torch.randn(2, 3, 64, 64))
    assert [f.shape for f in encoder] == [f.shape for f in decoder]
    assert [f.shape[-1] for f in encoder] == [16, 8, 4]
    reconstruction_loss(encoder, decoder).backward()
    for name, parameter in model.named_parameters():
        if name.startswith("encoder."):
            assert parameter.grad is None
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("side", [64, 96, 160])
def test_sides_in_steps_of_32_work_with_orders_that_fill_any_square(side):
    prediction = small(scan="sweep", directions=4).predict(torch.randn(1, 3, side, side))
    assert prediction.anomaly_map.shape == (1, side, side)
    assert torch.equal(prediction.score, prediction.anomaly_map.flatten(1).amax(1))


@pytest.mark.parametrize(
    ("changes", "shape", "message"),
    [
        ({}, (96, 96), "must be 64, 128, 256, 512 or 1024 pixels .the hilbert curve"),
        ({}, (64, 128), "square"),
        ({"scan": "sweep"}, (80, 80), "multiple of 32"),
        ({"scan": "sweep"}, (32, 32), "multiple of 32"),
        ({"scan": "sweep"}, (1056, 1056), "multiple of 32"),
    ],
)
def test_sides_that_do_not_fit_are_refused(changes, shape, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)(torch.randn(1, 3, *shape))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depths": (2, 5, 2, 2)}, "depth 5 does not split"),
        ({"depths": (2, 2, 2)}, "four positive block counts"),
        ({"branches": "none"}, "branches must be one of"),
        ({"local_conv": "conv"}, "local_conv must be one of"),
        ({"local_kernels": (4,)}, "odd and positive"),
        ({"local_kernels": (5, 5)}, "distinct"),
        ({"scan": "spiral"}, "scan must be one of"),
        ({"directions": 6}, "directions must be one of"),
        ({"scan": (("sweep", 4), ("hilbert", 2))}, "add up to directions=8"),
        ({"scan": (("sweep", 4), ("sweep", 4))}, "each method once"),
        ({"drop_path": 1.0}, "drop_path must be in"),
        ({"state_size": 0}, "state_size must be positive"),
    ],
)
def test_wrong_settings_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**changes)


def test_misspelt_setting_is_an_error():
    with pytest.raises(TypeError, match="dephts"):
        ModelConfig(dephts=(2, 2, 2, 2))


def test_encoder_stays_frozen_and_in_eval_mode():
    model = small().train()
    assert not any(module.training for module in model.encoder.modules())
    assert model.decoder.training
    before = model.encoder.net.state_dict()["bn1.running_mean"].clone()
    model(torch.randn(2, 3, 64, 64))
    assert torch.equal(before, model.encoder.net.state_dict()["bn1.running_mean"])
    assert not any(parameter.requires_grad for parameter in model.encoder.parameters())


def test_predict_keeps_the_mode_and_is_the_same_in_both():
    model, image = small(), torch.randn(1, 3, 64, 64)
    model.train()
    first = model.predict(image)
    assert model.decoder.training
    model.eval()
    assert torch.equal(first.anomaly_map, model.predict(image).anomaly_map)


def test_normalize_uses_the_encoders_mean_and_std():
    model = small(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    image = torch.rand(1, 3, 64, 64)
    wanted = torch.stack([(image[0, c] - m) / s for c, (m, s) in enumerate([(0.1, 0.5), (0.2, 0.25), (0.3, 2.0)])])
    assert torch.allclose(model.normalize(image)[0], wanted)


def test_scan_backends_give_the_same_network():
    model, image = small().eval(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        _, chunked = model(image)
        model.set_scan_backend("reference")
        _, reference = model(image)
    for a, b in zip(chunked, reference, strict=True):
        assert torch.allclose(a, b, atol=1e-4, rtol=1e-4)


def test_a_scan_backend_is_set_for_every_block_or_refused():
    model, seen = small().eval(), []

    def watched(x, *rest):
        seen.append(tuple(x.shape))
        return routed_scan(x, *rest)

    model.set_scan_backend(watched)
    with torch.no_grad():
        model(torch.randn(1, 3, 64, 64))
    assert seen == [(1, side**2, 2 * w) for side, w in zip((2, 4, 8, 16), (64, 32, 16, 8), strict=True) for _ in "12"]
    with pytest.raises(ValueError, match=r"backend must be one of .* or 'auto', got 'fast'"):
        model.set_scan_backend("fast")
    if torch.cuda.is_available():
        return
    with pytest.raises(RuntimeError, match="take another backend"):
        model.set_scan_backend("mamba_ssm")


def test_initial_values_are_the_published_ones():
    block = HSSBlock(32, (("hilbert", 8),))
    ss2d = block.ss2d
    assert torch.allclose(ss2d.A_log, torch.arange(1.0, 17).log().expand(8, 64, 16))
    assert torch.equal(ss2d.D, torch.ones(8, 64))
    dt = F.softplus(ss2d.dt_bias)
    assert dt.min() >= 1e-3 * 0.99
    assert dt.max() <= 1e-1 * 1.01
    assert ss2d.dt_proj.shape == (8, 64, 2)
    assert ss2d.dt_proj.abs().max() <= 2**-0.5
    model = small()
    linear = model.decoder.stages[0][0].hss[0].ss2d.in_proj.weight
    assert linear.std().item() == pytest.approx(0.02, rel=0.1)
    conv = model.decoder.stages[0][0].local[1][1][0].weight  # depthwise 7 x 7
    assert conv.std().item() == pytest.approx(math.sqrt(2 / 49), rel=0.15)
    fusion = model.half_fpn.down_8[0].weight
    assert fusion.std().item() == pytest.approx(math.sqrt(2 / (9 * fusion.shape[0])), rel=0.15)


def test_drop_path_rates_fall_and_are_shared_within_a_module():
    model = small(depths=(3, 4, 6, 3))
    rates = [[[b.drop_path.drop_prob for b in lss.hss] for lss in stage] for stage in model.decoder.stages]
    every = [0.2 * (1 - i / 15) for i in range(16)]
    firsts = [0, 3, 7, 13]
    for stage, first in zip(rates, firsts, strict=True):
        for i, module in enumerate(stage):
            assert module == pytest.approx([every[first + i]] * len(module))


def test_lss_module_is_the_published_sum():
    module = LSSModule(8, 2, (("scan", 2),), local_kernels=(5, 7)).eval()
    x = torch.randn(2, 4, 4, 8)
    image = x.permute(0, 3, 1, 2)
    y = x
    for block in module.hss:
        y = block(y)
    merged = module.merge(torch.cat([y.permute(0, 3, 1, 2), module.local[0](image), module.local[1](image)], 1))
    assert torch.allclose(module(x), merged.permute(0, 2, 3, 1) + x, atol=1e-6)
    assert module.local[0][1][0].kernel_size == (5, 5)


def test_local_branch_kinds():
    full, alone = local_branch(4, 5, "dwconv_1x1"), local_branch(4, 5, "dwconv")
    assert [layer[0].kernel_size for layer in full] == [(1, 1), (5, 5), (1, 1)]
    assert [layer[0].kernel_size for layer in alone] == [(5, 5)]
    assert full[1][0].bias is None
    assert full[0][0].bias is not None


def test_local_branch_equals_torchs_own_layers_and_stays_channels_last():
    branch = local_branch(6, 5, "dwconv_1x1").double()
    x = (torch.randn(2, 8, 8, 6, dtype=torch.double) + 3).permute(0, 3, 1, 2).requires_grad_()
    expected = x
    for conv, norm, _ in branch:
        same_size = F.conv2d(expected, conv.weight, conv.bias, padding=conv.padding, groups=conv.groups)
        expected = F.silu(F.instance_norm(same_size, eps=norm.eps))
    ours = branch(x)
    torch.testing.assert_close(ours, expected)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    tensors = [x, *branch.parameters()]
    weights = torch.randn_like(ours)
    for got, wanted in zip(
        torch.autograd.grad(ours, tensors, weights), torch.autograd.grad(expected, tensors, weights), strict=True
    ):
        torch.testing.assert_close(got, wanted)


def test_fusion_halves_the_side_and_doubles_the_width():
    fusion = HalfFPN((4, 8, 16)).eval()
    features = [torch.randn(1, c, s, s) for c, s in ((4, 16), (8, 8), (16, 4))]
    assert fusion(features).shape == (1, 32, 2, 2)
    assert isinstance(fusion.bottlenecks[1], Bottleneck)
    with pytest.raises(ValueError, match="even number of channels"):
        HalfFPN((4, 8, 15))


@pytest.mark.parametrize("side", [8, 40, 64])
def test_gaussian_filter_is_scipys(side):
    maps = torch.rand(3, side, side)
    wanted = np.stack([scipy.ndimage.gaussian_filter(m, sigma=4) for m in maps.numpy()])
    assert np.abs(gaussian_filter(maps).numpy() - wanted).max() < 1e-6


def test_anomaly_map_is_zero_for_perfect_reconstruction_and_marks_the_wrong_place():
    features = [torch.rand(1, c, s, s) + 0.1 for c, s in ((8, 16), (16, 8), (32, 4))]
    assert anomaly_map(features, features, 64).abs().max() < 1e-6
    wrong = [f.clone() for f in features]
    wrong[0][0, :, 4, 12] *= torch.linspace(-1, 1, 8)
    hit = anomaly_map(features, wrong, 64)[0].argmax().item()
    assert abs(hit // 64 - 4 * 63 / 15) <= 2
    assert abs(hit % 64 - 12 * 63 / 15) <= 2


def test_loss_is_five_times_the_sum_of_mean_squared_errors():
    a = [torch.randn(2, 3, 4, 4) for _ in range(3)]
    b = [torch.randn(2, 3, 4, 4) for _ in range(3)]
    wanted = 5 * sum(((x - y) ** 2).mean() for x, y in zip(a, b, strict=True))
    assert torch.allclose(reconstruction_loss(a, b), wanted)


def test_encoder_weights_from_files_are_those_of_the_file(tmp_path):
    full = timm.create_model("resnet18", pretrained=False, channels=(8, 16, 32, 64))
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


def test_weights_that_do_not_fit_are_refused_with_the_tensors(tmp_path):
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


def test_unreachable_hub_is_one_sentence_with_the_ways_out(monkeypatch, tmp_path):
    def unreachable(*_, **__):
        raise OSError("no route to host")

    real = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: unreachable() if k.get("pretrained") else real(*a, **k))
    with pytest.raises(EncoderWeightsError, match=r"could not be reached: pass a local .safetensors") as caught:
        Encoder("resnet18", "resnet18.tv_in1k")
    assert "random" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(EncoderWeightsError, match="are not of the backbone 'resnet18'"):
        Encoder("resnet18", "resnet34.bt_in1k")
    with pytest.raises(EncoderWeightsError, match="timm knows no weights"):
        Encoder("resnet18", "resnet18.nobody_knows")


def test_backbones_without_the_strides_are_refused():
    with pytest.raises(ValueError, match="without a weights tag"):
        Encoder("resnet34.bt_in1k")
    with pytest.raises(ValueError, match="features at strides"):
        Encoder("convnext_atto", "random", {"stem_type": "patch", "patch_size": 8})


def test_stages_after_stride_16_are_not_built():
    encoder = Encoder("mobilenetv2_100", "random")
    assert len(encoder.net.blocks) == 5
    assert encoder.channels == (24, 32, 96)
    assert not any(key.startswith("layer4") for key in Encoder("resnet18").net.state_dict())


def test_real_imagenet_weights_load_and_separate_images(shared):
    encoder = Encoder(
        "mobilenetv2_100", shared / "weights/mobilenetv2_100_imagenet_stride16.safetensors", {"pad_type": "same"}
    )
    a, b = torch.randn(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)
    assert all((x - y).abs().max() > 1e-3 for x, y in zip(encoder(a), encoder(b), strict=True))

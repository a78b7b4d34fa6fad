"""The network as a whole: shapes, sides, modes, normalisation, scan backends; with a small encoder to be quick."""

from typing import Any

import pytest
import torch
from small_model import HYBRID, small
from torch import Tensor

from mambaad.model import reconstruction_loss
from mambaad.ops.routed_scan import routed_scan


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
def test_features_match_the_encoder_at_every_scale_and_all_parameters_learn(changes: dict[str, Any]) -> None:
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
def test_sides_in_steps_of_32_work_with_orders_that_fill_any_square(side: int) -> None:
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
def test_sides_that_do_not_fit_are_refused(changes: dict[str, Any], shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**changes)(torch.randn(1, 3, *shape))


def test_encoder_stays_frozen_and_in_eval_mode() -> None:
    model = small().train()
    assert not any(module.training for module in model.encoder.modules())
    assert model.decoder.training
    before = model.encoder.net.state_dict()["bn1.running_mean"].clone()
    model(torch.randn(2, 3, 64, 64))
    assert torch.equal(before, model.encoder.net.state_dict()["bn1.running_mean"])
    assert not any(parameter.requires_grad for parameter in model.encoder.parameters())


def test_predict_keeps_the_mode_and_is_the_same_in_both() -> None:
    model, image = small(), torch.randn(1, 3, 64, 64)
    model.train()
    first = model.predict(image)
    assert model.decoder.training
    model.eval()
    assert torch.equal(first.anomaly_map, model.predict(image).anomaly_map)


def test_normalize_uses_the_encoders_mean_and_std() -> None:
    model = small(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    image = torch.rand(1, 3, 64, 64)
    wanted = torch.stack([(image[0, c] - m) / s for c, (m, s) in enumerate([(0.1, 0.5), (0.2, 0.25), (0.3, 2.0)])])
    assert torch.allclose(model.normalize(image)[0], wanted)


def test_scan_backends_give_the_same_network() -> None:
    model, image = small().eval(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        _, chunked = model(image)
        model.set_scan_backend("reference")
        _, reference = model(image)
    for a, b in zip(chunked, reference, strict=True):
        assert torch.allclose(a, b, atol=1e-4, rtol=1e-4)


def test_a_scan_backend_is_set_for_every_block_or_refused() -> None:
    model, seen = small().eval(), []

    def watched(x: Tensor, *rest: Any) -> Tensor:
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

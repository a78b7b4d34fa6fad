"""MambaAD and a bank in one map: what each part is, that they are standardised, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import MODEL, QUIETLY, RUN

from mambaad.baselines.mambaad_bank import MambaADBank
from mambaad.config import MambaADBankConfig, preset, run_config_from_dict, to_dict
from mambaad.data import load_dataset
from mambaad.engine.train import train_run
from mambaad.model import MambaAD
from mambaad.model.anomaly_map import unsmoothed_map

SMALL: dict[str, Any] = {"backbone": MODEL.backbone, "backbone_kwargs": MODEL.backbone_kwargs, "entries": 64}
CONFIG = MambaADBankConfig(**SMALL, network=MODEL, network_side=64)


def images(number: int, side: int = 128) -> torch.Tensor:
    return torch.randn(number, 3, side, side, generator=torch.Generator().manual_seed(number))


@pytest.fixture(scope="module")
def model() -> MambaADBank:
    torch.manual_seed(0)
    model = MambaADBank(CONFIG, "random").eval()
    model.finish([images(3), images(2)], [images(4)], 5, 128, 0)
    return model


def test_the_parts_are_those_of_the_network_at_its_side_and_of_the_bank_at_the_whole_one(model: MambaADBank) -> None:
    given = images(2)
    cosine, euclidean, bank = model.parts(given).unbind(1)
    small = torch.nn.functional.avg_pool2d(given, 2)
    network: MambaAD = model.network
    with torch.no_grad():
        encoder, decoder = network(small)
    assert torch.equal(cosine, unsmoothed_map(encoder, decoder, 128))
    assert torch.equal(euclidean, unsmoothed_map(encoder, decoder, 128, "euclidean"))
    enlarged = torch.nn.functional.interpolate(model.bank(given)[:, None], (128, 128), mode="bilinear")[:, 0]
    assert torch.equal(bank, enlarged)


def test_images_held_out_have_parts_of_mean_zero_and_deviation_one(model: MambaADBank) -> None:
    parts = (model.parts(images(4)) - model.mean[:, None, None]) / model.std[:, None, None]
    assert parts.mean((0, 2, 3)).abs().max() < 1e-3
    assert (parts.std((0, 2, 3)) - 1).abs().max() < 1e-3


def test_the_bank_has_its_share_of_the_map_and_the_other_parts_the_rest(model: MambaADBank) -> None:
    parts = (model.parts(images(2)) - model.mean[:, None, None]) / model.std[:, None, None]
    cosine, euclidean, bank = parts.unbind(1)
    assert torch.allclose(model(images(2)), (4 * bank + cosine + euclidean) / 6, atol=1e-4)


def test_an_image_that_the_network_sees_whole_is_not_shrunk(model: MambaADBank) -> None:
    given = images(2, 64)
    assert model.shrink(given) is given
    assert model.predict(given).anomaly_map.shape == (2, 64, 64)


def test_settings_come_back_from_a_record_with_one_encoder_for_both() -> None:
    run = preset("laptop").run
    assert run_config_from_dict(to_dict(run)) == run
    assert isinstance(run.model, MambaADBankConfig)
    assert run.model.network.backbone == run.model.backbone
    other = replace(CONFIG, backbone="resnet34", backbone_kwargs={})
    assert other.network.backbone == "resnet34"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts": ("cosine",)}, "parts must name 'bank'"),
        ({"parts": ("bank", "bank")}, "each part once"),
        ({"parts": ("bank", "angle")}, "part of the map must be one of"),
        ({"bank_share": 0.0}, "bank_share must be above 0"),
        ({"entries": 0}, "entries and sigma must be positive"),
    ],
)
def test_wrong_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MambaADBankConfig(**{**SMALL, "network": MODEL, **changes})


def test_training_without_images_held_out_is_refused(drawn: Path) -> None:
    run = replace(RUN, model=CONFIG, train=replace(RUN.train, steps=1))
    with pytest.raises(ValueError, match="with a holdout above 0"):
        train_run(run, load_dataset("synthetic", drawn), execution=QUIETLY)


def test_kept_features_are_those_of_the_shrunk_images(drawn: Path) -> None:
    """With features kept, or computed in every step, training takes the same steps."""
    run = replace(RUN, model=CONFIG, data=replace(RUN.data, side=128), train=replace(RUN.train, steps=2, holdout=0.3))
    samples = load_dataset("synthetic", drawn)
    kept = train_run(run, samples, execution=replace(QUIETLY, features="float32"))
    assert kept.loss == train_run(run, samples, execution=QUIETLY).loss

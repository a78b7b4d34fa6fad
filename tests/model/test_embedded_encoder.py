"""The embedded encoder: its files belong together, it fits the network named, and it has learned something."""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import pytest
import timm
import torch
from conftest import ROOT
from safetensors.torch import load_file
from torch import nn

from mambaad.data import load_dataset
from mambaad.data.synthetic.generate import write_synthetic
from mambaad.model import Encoder

WEIGHTS = ROOT / "mambaad" / "assets" / "embedded_encoder.safetensors"
RECORD = ROOT / "results" / "encoder" / "embedded_encoder.json"


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "scripts"))
    import train_embedded_encoder

    yield train_embedded_encoder
    sys.path.remove(str(ROOT / "scripts"))


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return json.loads(WEIGHTS.with_suffix(".json").read_text())


def network(described: dict[str, Any]) -> nn.Module:
    """Untrained, cut after stride 16 as the library does it."""
    return Encoder(described["backbone"], "random", described["backbone_kwargs"]).net


def test_files_belong_together(described: dict[str, Any]) -> None:
    assert WEIGHTS.stat().st_size <= 2.5e6
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == described["sha256"]
    record = json.loads(RECORD.read_text())
    assert record["sha256"] == described["sha256"]
    assert (ROOT / described["trained"]["script"]).is_file()
    assert record["loss"][-1][0] == record["trained"]["steps"] == described["trained"]["steps"]
    assert record["loss"][-1][1] < record["loss"][0][1]
    chance = 100 / described["trained"]["classes"]
    assert described["trained"]["held_out_accuracy"] > 20 * chance


def test_weights_fit_the_timm_model_name_for_name(described: dict[str, Any]) -> None:
    """All of the network up to stride 16, nothing else; and the same names as in the whole classifier."""
    state = load_file(WEIGHTS)
    net = network(described)
    net.load_state_dict(state, strict=True)
    assert cast(Any, net.feature_info).reduction() == [4, 8, 16]
    whole = timm.create_model(described["backbone"], pretrained=False, num_classes=0, **described["backbone_kwargs"])
    keys = whole.load_state_dict(state, strict=False)
    assert not keys.unexpected_keys
    later = ("layer4.", "blocks.5.", "blocks.6.", "conv_head.", "bn2.", "classifier.")
    assert all(key.startswith(later) for key in keys.missing_keys)
    assert all(tensor.isfinite().all() for tensor in state.values())


def test_features_differ_between_inputs_and_are_of_one_scale(described: dict[str, Any]) -> None:
    net = network(described).eval()
    net.load_state_dict(load_file(WEIGHTS))
    with torch.inference_mode():
        for feature in net(torch.randn(4, 3, 64, 64)):
            assert 0.01 < feature.std(dim=0).mean() < 100


def test_separates_defects_better_than_random_weights(
    described: dict[str, Any], script: ModuleType, tmp_path: Path
) -> None:
    """Nearest neighbours on a small synthetic set: well above the same network untrained, two seeds."""
    samples = load_dataset("synthetic", write_synthetic(tmp_path / "set", 64, seed=5, train=12, test=12))
    trained = network(described)
    trained.load_state_dict(load_file(WEIGHTS))
    image, pixel = script.judge(trained, samples, 64, described["mean"], described["std"])["mean"]
    torch.manual_seed(1)
    random = np.mean(
        [script.judge(network(described), samples, 64, script.MEAN, script.STD)["mean"] for _ in range(2)], axis=0
    )
    assert image > random[0] + 5
    assert pixel > random[1] + 3


def test_auroc_of_the_script(script: ModuleType) -> None:
    import nearest_neighbour
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 60), rng.integers(0, 9, 60) / 9.0
    assert nearest_neighbour.auroc(labels, scores) == pytest.approx(100 * roc_auc_score(labels, scores), abs=1e-9)


def test_procedural_images_are_deterministic_and_differ_within_a_class(script: ModuleType) -> None:
    draw = script.procedural_images.draw
    for family in range(len(script.procedural_images.FAMILIES)):
        first, again, other = draw(family, 0, 40, 0), draw(family, 0, 40, 0), draw(family, 1, 40, 0)
        assert first.shape == (40, 40, 3)
        assert first.dtype == np.uint8
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)
        assert not np.array_equal(first, draw(family, 0, 40, 1))


def test_training_is_repeatable_and_learns(script: ModuleType) -> None:
    rng = torch.Generator().manual_seed(0)
    colours = torch.randint(40, 216, (3, 1, 3, 1, 1), generator=rng)
    pool = (colours + torch.randint(-30, 31, (3, 8, 3, 80, 80), generator=rng)).to(torch.uint8)
    runs = [script.train(pool, held_out=2, steps=12, batch=12, lr=3e-3, seed=0) for _ in range(2)]
    (first, curve, accuracy), (second, again, _) = runs
    assert curve == again
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert curve[-1][0] == 12
    assert 0 <= accuracy <= 100


def test_augmentation_keeps_shape_and_changes_every_image(script: ModuleType) -> None:
    images = torch.randn(6, 3, 80, 80)
    out = script.augment(images.clone(), torch.Generator().manual_seed(0))
    assert out.shape == (6, 3, 64, 64)
    assert all((out[k] - images[k, :, 8:72, 8:72]).abs().max() > 0.01 for k in range(6))

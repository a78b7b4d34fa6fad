"""Parity with the published implementation: its outputs and gradients, from parameters filled by key name.

The reference outputs are part of the repository (tests/reference), so nothing here is ever skipped.
"""

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from reference_cases import REFERENCE, cases, filled_state_dict, input_image
from torch import Tensor

import mambaad
from mambaad.model import reconstruction_loss, scan_order
from mambaad.model.published_checkpoint import published_key_map

pytestmark = pytest.mark.never_skipped

NAMES = ("hilbert8_resnet34_3463", "scan4_resnet18_2222")
# A second implementation agreed to 4e-6 of the largest value; a wrong route order is off by 1e-2 and more.
TOLERANCE = 2e-5
GRADIENT_TOLERANCE = 4e-5  # 1.9e-5 at worst where this was written; the order of sums differs between machines
NORM_TOLERANCE = 5e-5  # of the largest norm: the recorded norms of the small network were summed in float32
SAMPLES = 64  # of each gradient, at most


@dataclass(frozen=True)
class Case:
    name: str
    facts: dict[str, Any]
    model: mambaad.MambaAD
    new_names: dict[str, str]
    """Our key for each published one."""

    @property
    def image(self) -> Tensor:
        return input_image(self.facts["image_seed"])


def test_every_case_is_here() -> None:
    assert tuple(cases()) == NAMES


@pytest.fixture(scope="module", params=NAMES)
def case(request: pytest.FixtureRequest) -> Case:
    facts = cases()[request.param]
    tables = {side * side: scan_order(facts["scan"], side) for side in (8, 16, 32, 64)}
    state = filled_state_dict(REFERENCE / f"{request.param}.keys.json", tables)
    return Case(request.param, facts, mambaad.load_checkpoint(state), published_key_map(state))


@pytest.fixture(scope="module")
def loss(case: Case) -> Tensor:
    """The loss, after its gradients were computed."""
    case.model.zero_grad()
    loss = reconstruction_loss(*case.model(case.image))
    loss.backward()
    return loss.detach()


@pytest.fixture(scope="module")
def gradients(case: Case, loss: Tensor) -> dict[str, Tensor]:
    """Our gradients under the published names, sorted."""
    ours = dict(case.model.named_parameters())
    trained = {k: ours[new] for k, new in case.new_names.items() if new in ours and ours[new].requires_grad}
    found = {}
    for key in sorted(trained):
        gradient = trained[key].grad
        assert gradient is not None, key
        found[key] = gradient.flatten()
    return found


@pytest.fixture(scope="module")
def norms(case: Case) -> dict[str, float]:
    return json.loads((REFERENCE / f"{case.name}.grads.json").read_text())["grad_norm"]


def test_config_is_inferred_from_the_tensors(case: Case) -> None:
    facts = case.facts
    assert case.model.config == mambaad.ModelConfig(
        backbone=facts["backbone"], depths=facts["depths"], scan=facts["scan"], directions=facts["directions"]
    )
    assert sum(p.numel() for p in case.model.parameters()) == facts["parameters"]


def test_every_array_equals_the_reference(case: Case) -> None:
    with torch.no_grad():
        encoder, decoder = case.model(case.image)
    prediction = case.model.predict(case.image)
    arrays = {f"encoder_{i}": e for i, e in enumerate(encoder)} | {f"decoder_{i}": d for i, d in enumerate(decoder)}
    arrays["anomaly_map"] = prediction.anomaly_map
    with np.load(REFERENCE / f"{case.name}.npz") as reference:
        assert set(arrays) | {"score"} == set(reference)
        for key, ours in arrays.items():
            wanted = reference[key]
            error = np.abs(ours.numpy().reshape(-1)[:: case.facts["step"]] - wanted).max() / np.abs(wanted).max()
            assert error < TOLERANCE, (key, error)
        assert prediction.score.item() == pytest.approx(float(np.ravel(reference["score"])[0]), rel=TOLERANCE)


def test_the_loss_equals_the_reference(case: Case, loss: Tensor) -> None:
    with np.load(REFERENCE / f"{case.name}.grads.npz") as reference:
        assert loss.item() == pytest.approx(float(reference["loss"]), rel=1e-6)


def test_gradient_norms_equal_the_reference(gradients: dict[str, Tensor], norms: dict[str, float]) -> None:
    assert set(gradients) == set(norms)
    largest = max(norms.values())
    for key, gradient in gradients.items():
        assert abs(gradient.double().norm().item() - norms[key]) < NORM_TOLERANCE * largest, key


def test_gradients_equal_the_reference_value_by_value(
    case: Case, gradients: dict[str, Tensor], norms: dict[str, float]
) -> None:
    sampled = {key: g[:: math.ceil(g.numel() / SAMPLES)].numpy() for key, g in gradients.items()}
    with np.load(REFERENCE / f"{case.name}.grads.npz") as reference:
        values = reference["values"]
    assert values.size == sum(ours.size for ours in sampled.values())
    parts = np.split(values, np.cumsum([ours.size for ours in sampled.values()])[:-1])
    compared, zero = 0, []
    for (key, ours), wanted in zip(sampled.items(), parts, strict=True):
        if norms[key] <= 1e-6 * max(norms.values()):
            assert key.endswith(".bias"), key  # in front of an InstanceNorm: the true gradient is 0
            continue
        compared += 1
        if not wanted.any():
            zero.append(key)
        assert np.abs(ours - wanted).max() <= GRADIENT_TOLERANCE * np.abs(wanted).max(), key
    assert zero == ["mff_oce.bn_layer.0.conv1.weight", "mff_oce.bn_layer.0.downsample.0.weight"]
    assert compared == {"hilbert8_resnet34_3463": 313, "scan4_resnet18_2222": 193}[case.name]

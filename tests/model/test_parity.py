"""Parity with the published implementation: its outputs and gradients, from parameters filled by key name."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from reference_cases import cases, filled_state_dict, input_image

import mambaad
from mambaad.model import reconstruction_loss, scan_order
from mambaad.model.checkpoint import published_key_map

NAMES = ("hilbert8_resnet34_3463", "scan4_resnet18_2222")
# A second implementation agreed to 4e-6 of the largest value; a wrong route order is off by 1e-2 and more.
TOLERANCE = 2e-5
GRADIENT_TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def loaded(shared: Path) -> dict[str, tuple[dict, mambaad.MambaAD, dict]]:
    found = cases(shared / "reference")
    assert set(NAMES) <= set(found)
    out = {}
    for name, case in found.items():
        tables = {side * side: scan_order(case["scan"], side) for side in (8, 16, 32, 64)}
        state = filled_state_dict(shared / "reference" / f"{name}.keys.json", tables)
        out[name] = (case, mambaad.load_checkpoint(state), state)
    return out


@pytest.mark.parametrize("name", NAMES)
def test_config_is_inferred_from_the_tensors(loaded, name):
    case, model, _ = loaded[name]
    assert model.config == mambaad.ModelConfig(
        backbone=case["backbone"], depths=case["depths"], scan=case["scan"], directions=case["directions"]
    )
    assert sum(p.numel() for p in model.parameters()) == case["parameters"]


@pytest.mark.parametrize("name", NAMES)
def test_every_array_equals_the_reference(loaded, shared, name):
    case, model, _ = loaded[name]
    image = input_image(case["image_seed"])
    with torch.no_grad():
        encoder, decoder = model(image)
    prediction = model.predict(image)
    arrays = {f"encoder_{i}": e for i, e in enumerate(encoder)} | {f"decoder_{i}": d for i, d in enumerate(decoder)}
    arrays["anomaly_map"] = prediction.anomaly_map
    with np.load(shared / "reference" / f"{name}.npz") as reference:
        for key, ours in arrays.items():
            wanted = reference[key]
            error = np.abs(ours.numpy().reshape(-1)[:: case["step"]] - wanted).max() / np.abs(wanted).max()
            assert error < TOLERANCE, (key, error)
        assert prediction.score.item() == pytest.approx(float(np.ravel(reference["score"])[0]), rel=TOLERANCE)


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("scan4")])
def test_loss_and_gradient_norms_equal_the_reference(loaded, shared, name):
    case, model, state = loaded[name]
    wanted = json.loads((shared / "reference" / f"{name}.grads.json").read_text())
    model.zero_grad()
    loss = reconstruction_loss(*model(input_image(case["image_seed"])))
    loss.backward()
    assert loss.item() == pytest.approx(wanted["loss"], rel=GRADIENT_TOLERANCE)
    ours = dict(model.named_parameters())
    largest = max(wanted["grad_norm"].values())
    new_names = published_key_map(state)
    assert set(wanted["grad_norm"]) == {
        k for k in new_names if k.startswith(("mff_oce", "net_s")) and new_names[k] in ours
    }
    for key, norm in wanted["grad_norm"].items():
        assert abs(ours[new_names[key]].grad.norm().item() - norm) < GRADIENT_TOLERANCE * largest, key

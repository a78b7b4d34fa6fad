"""Parity of the other methods with their published modules: outputs, losses, gradients; parameters filled by key.

Encoders take part where the case has one; UniAD and SimpleNet start from given features.  DiAD's case is a narrow
network of the published structure, outputs only.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference_cases import REFERENCE, filled_tensor
from torch import Tensor, nn

from mambaad.baselines.diad.autoencoder import Autoencoder
from mambaad.baselines.diad.denoiser import UNet
from mambaad.baselines.diad.diffusion import alphas_cumprod, ddim_step
from mambaad.baselines.diad.guide import SemanticGuide
from mambaad.baselines.rd4ad import RD4AD
from mambaad.baselines.simplenet import SimpleNet
from mambaad.baselines.uniad import FeatureTransformer, distance_map
from mambaad.config import DiADConfig, RD4ADConfig, SimpleNetConfig, UniADConfig

pytestmark = pytest.mark.never_skipped

CASES: dict[str, dict[str, Any]] = {
    case["name"]: case for case in json.loads((REFERENCE / "baselines" / "cases.json").read_text())
}
TOLERANCE = 2e-5  # of an array's largest value
LOSS_TOLERANCE = 1e-5
NORM_TOLERANCE = 1e-4  # of the largest norm

RD4AD_NAMES = (
    (r"^net_t\.", "encoder.net."),
    (r"^mff_oce\.bn_layer\.", "embedding.stage."),
    (r"^mff_oce\.", "embedding."),
    (r"^net_s\.layer(\d)\.", lambda found: f"student.{int(found[1]) - 1}."),
    (r"^((?:embedding|student)\..*)\.(?:downsample|upsample)\.", r"\1.shortcut."),
)
UNIAD_NAMES = (
    (r"^pos_embed\.row_embed\.weight", "rows"),
    (r"^pos_embed\.col_embed\.weight", "columns"),
    (r"^transformer\.(encoder|decoder)\.layers\.", r"\1."),
    (r"^transformer\.decoder\.norm", "norm"),
    (r"^(encoder\.\d)\.self_attn", r"\1.attention"),
    (r"^(decoder\.\d)\.self_attn", r"\1.attention1"),
    (r"multihead_attn", "attention2"),
    (r"learned_embed\.weight", "queries"),
    (r"linear1", "feedforward.0"),
    (r"linear2", "feedforward.3"),
    (r"^(in|out)put_proj", r"\1put"),
)
SIMPLENET_NAMES = (
    (r"^pre_projection\.layers\.0fc", "projection"),
    (r"^discriminator\.body\.block1\.", "discriminator."),
    (r"^discriminator\.tail", "discriminator.3"),
)

DIAD_FUSION = r"^down(\d)(\d)\.0\."


def renamed(key: str, rules: Any) -> str:
    for pattern, new in rules:
        key = re.sub(pattern, new, key)
    return key


def fill(model: nn.Module, case: str, rules: Any) -> dict[str, str]:
    """Fill a network by published keys; returns ours for each published one."""
    shapes = json.loads((REFERENCE / "baselines" / f"{case}.keys.json").read_text())
    names = {key: renamed(key, rules) for key in shapes}
    own = model.state_dict()
    state = {}
    for key, (shape, _) in shapes.items():
        if key.endswith("num_batches_tracked"):
            continue
        state[names[key]] = filled_tensor(key, tuple(shape))
        assert own[names[key]].shape == tuple(shape), key
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    assert not [key for key in missing if not key.startswith("encoder.net") or case == "rd4ad_a"]
    model.load_state_dict(state, strict=False)
    return names


def drawn(seed: int, shape: Any) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


def check(case: str, arrays: dict[str, tuple[Tensor, int]]) -> None:
    reference = np.load(REFERENCE / "baselines" / f"{case}.npz")
    for name, (value, step) in arrays.items():
        expected = reference[name]
        ours = value.detach().flatten()[::step].numpy()
        assert ours.shape == expected.shape, name
        assert np.abs(ours - expected).max() <= TOLERANCE * np.abs(expected).max(), name


def check_loss(case: str, loss: Tensor, name: str = "loss") -> None:
    expected = float(np.load(REFERENCE / "baselines" / f"{case}.npz")[name])
    assert loss.item() == pytest.approx(expected, rel=LOSS_TOLERANCE)


def check_gradients(case: str, model: nn.Module, names: dict[str, str]) -> None:
    norms = json.loads((REFERENCE / "baselines" / f"{case}.grads.json").read_text())
    ours = dict(model.named_parameters())
    largest = max(norms.values())
    assert norms
    for key, expected in norms.items():
        gradient = ours[names[key]].grad
        assert gradient is not None, key
        assert abs(gradient.norm().item() - expected) <= NORM_TOLERANCE * largest, key
    trained = {name for name, parameter in ours.items() if parameter.grad is not None}
    assert trained == {names[key] for key in norms}


def test_rd4ad() -> None:
    case = CASES["rd4ad_a"]
    model = RD4AD(RD4ADConfig(), weights="random").eval()
    names = fill(model, "rd4ad_a", RD4AD_NAMES)
    images = drawn(case["image_seed"], (case["batch"], 3, case["side"], case["side"]))
    teacher, student = model(images)
    raw = torch.stack(
        [
            nn.functional.interpolate(
                (1 - nn.functional.cosine_similarity(t, s))[:, None],
                size=images.shape[-2:],
                mode="bilinear",
                align_corners=True,
            )
            for t, s in zip(teacher, student, strict=True)
        ]
    ).sum(0)
    arrays = {f"teacher_{i}": (t, case["step"]) for i, t in enumerate(teacher)}
    arrays |= {f"student_{i}": (s, case["step"]) for i, s in enumerate(student)}
    arrays["bottleneck"] = (model.embedding(*teacher), case["step"])
    arrays["map_before_scaling_and_smoothing"] = (raw, case["step"])
    check("rd4ad_a", arrays)
    loss = model.loss(images)
    check_loss("rd4ad_a", loss)
    loss.backward()
    check_gradients("rd4ad_a", model, names)


def test_uniad() -> None:
    case = CASES["uniad_a"]
    side = 16 * case["features"][-1]
    model = FeatureTransformer(case["features"][1], UniADConfig(side=side, neighbours=case["neighbor"])).eval()
    names = fill(model, "uniad_a", UNIAD_NAMES)
    features = drawn(case["feature_seed"], case["features"])
    rebuilt = model(features)
    check(
        "uniad_a",
        {
            "reconstruction": (rebuilt, case["step"]),
            "map": (distance_map(features, rebuilt, side), case["map_step"]),
        },
    )
    loss = nn.functional.mse_loss(rebuilt, features)
    check_loss("uniad_a", loss)
    loss.backward()
    check_gradients("uniad_a", model, names)


def test_simplenet() -> None:
    case = CASES["simplenet_a"]
    model = SimpleNet(SimpleNetConfig(backbone="resnet18"), weights="random").eval()
    names = fill(model, "simplenet_a", SIMPLENET_NAMES)
    features = [drawn(seed, shape) for seed, shape in zip(case["feature_seeds"], case["features"], strict=True)]
    described = model.describe(features)
    true = model.projection(described)
    noise = drawn(case["noise_seed"], tuple(true.shape))
    scores = model.discriminator(true)
    fake = model.discriminator(true + case["noise_std"] * noise)
    check(
        "simplenet_a",
        {
            "embedding": (described, case["embedding_step"]),
            "scores": (scores, case["step"]),
            "fake_scores": (fake, case["step"]),
        },
    )
    assert model.config.noise == case["noise_std"]
    loss = model.loss_from_features(features, noise)
    check_loss("simplenet_a", loss)
    loss.backward()
    check_gradients("simplenet_a", model, names)


@torch.no_grad()
def test_diad() -> None:
    case = CASES["diad_small"]
    config = DiADConfig(
        width=case["width"], context_width=case["context"][1], autoencoder_width=case["autoencoder_width"]
    )
    parts = {
        "model.diffusion_model.": UNet(config),
        "control_model.": SemanticGuide(config),
        "first_stage_model.": Autoencoder(config),
    }
    shapes = json.loads((REFERENCE / "baselines" / "diad_small.keys.json").read_text())
    for prefix, part in parts.items():
        keys = {key: key.removeprefix(prefix) for key in shapes if key.startswith(prefix)}
        names = {key: re.sub(DIAD_FUSION, _into, name) for key, name in keys.items()}
        part.load_state_dict({name: filled_tensor(key, tuple(shapes[key][0])) for key, name in names.items()})
    denoiser, guide, autoencoder = parts.values()
    assert [sum(p.numel() for p in part.parameters()) for part in parts.values()] == list(case["params"].values())
    latents, hint, image = (drawn(case[f"{name}_seed"], case[name]) for name in ("latent", "hint", "image"))
    context = drawn(case["context_seed"], (1, *case["context"]))
    t = torch.tensor([float(case["timestep"])])
    controls = guide(latents, t, context, hint)
    noise = denoiser(latents, t, context, guide.used(controls))
    gaussian = autoencoder.encode(image)
    shares = alphas_cumprod(1000)
    arrays = {
        "eps": noise,
        "eps_all_controls": denoiser(latents, t, context, controls),
        **{f"control_{i}": controls[i] for i in (6, 9, 11, 12)},
        "moments": torch.cat(gaussian, dim=1),
        "decoded": autoencoder.decode(gaussian.mean),
        "ddim_prev": ddim_step(latents, noise, shares[case["timestep"]], shares[case["next_timestep"]]),
    }
    assert set(arrays) == set(case["steps"])
    check("diad_small", {name: (value, case["steps"][name]) for name, value in arrays.items()})
    for time, share in case["alphas_cumprod"].items():
        assert shares[int(time)] == pytest.approx(share, rel=1e-6)


def _into(found: re.Match[str]) -> str:
    """`downIJ.0` leads from source I to target J."""
    return f"fusion.into.{int(found[2]) - 1}.{int(found[1]) - 1}."


def test_every_case_has_its_files() -> None:
    for name in CASES:
        for ending in ("keys.json", "npz") if name == "diad_small" else ("keys.json", "grads.json", "npz"):
            assert Path(REFERENCE / "baselines" / f"{name}.{ending}").is_file()

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

from mambaad.baselines.destseg import DeSTSeg, distances_of, focal_loss, shrink
from mambaad.baselines.diad.autoencoder import Autoencoder
from mambaad.baselines.diad.denoiser import UNet
from mambaad.baselines.diad.diffusion import alphas_cumprod, ddim_step
from mambaad.baselines.diad.guide import SemanticGuide
from mambaad.baselines.rd4ad import RD4AD
from mambaad.baselines.simplenet import SimpleNet
from mambaad.baselines.synthetic_anomalies import perlin
from mambaad.baselines.uniad import FeatureTransformer, distance_map
from mambaad.config import DeSTSegConfig, DiADConfig, RD4ADConfig, SimpleNetConfig, UniADConfig
from mambaad.config.methods import BASIC_BLOCKS

pytestmark = pytest.mark.never_skipped

CASES: dict[str, dict[str, Any]] = {
    case["name"]: case for case in json.loads((REFERENCE / "baselines" / "cases.json").read_text())
}
TOLERANCE = 2e-5  # of an array's largest value
LOSS_TOLERANCE = 1e-5
NORM_TOLERANCE = 1e-4  # of the largest norm
SUMMED_IN_FLOAT64 = ("rd_resnet18",)  # so were the recorded norms; those of the others lose some 1e-4 in float32
WITH_ENCODER = ("rd4ad_a", "rd_resnet18", "destseg_a")

RD4AD_NAMES = (
    (r"^net_t\.", "encoder.net."),
    (r"^mff_oce\.bn_layer\.", "embedding.stage."),
    (r"^mff_oce\.", "embedding."),
    (r"^net_s\.layer(\d)\.", lambda found: f"student.{int(found[1]) - 1}."),
    (r"^((?:embedding|student)\..*)\.(?:downsample|upsample)\.", r"\1.shortcut."),
)
RD_RESNET18_NAMES = (*RD4AD_NAMES[:-1], (r"^((?:embedding|student)\..*)\.(?:downsample|upsample)\.", r"\1.shortcut."))
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


DESTSEG_NAMES = (
    (r"^destseg\.teacher_net\.encoder\.", "encoder.net."),
    (r"^destseg\.student_net\.encoder\.", "student.encoder."),
    (r"^destseg\.student_net\.decoder_layer(\d)\.", lambda found: f"student.decoder.{4 - int(found[1])}."),
    (r"^destseg\.segmentation_net\.res\.", "segmentation.residual."),
    (r"^destseg\.segmentation_net\.head\.", "segmentation.head."),
    (r"aspp_feature_extractors\.0\.1\.", "pooled."),
    (r"aspp_feature_extractors\.(\d)\.", lambda found: f"dilated.{int(found[1]) - 1}."),
    (r"aspp_fusion_layer\.", "fusion."),
    (r"\.conv\.weight", ".0.weight"),
    (r"\.norm\.", ".1."),
    (r"^((?:student\.decoder|segmentation)\..*)\.downsample\.", r"\1.shortcut."),
)


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
    assert not [key for key in missing if not key.startswith("encoder.net") or case in WITH_ENCODER]
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


def check_gradients(case: str, model: nn.Module, names: dict[str, str], part: str = "", prefix: str = "") -> None:
    """`part` of the recorded norms, whose keys lack `prefix`."""
    norms = json.loads((REFERENCE / "baselines" / f"{case}.grads.json").read_text())
    norms = {prefix + key: norm for key, norm in (norms[part] if part else norms).items()}
    summed = torch.float64 if case in SUMMED_IN_FLOAT64 else torch.float32
    ours = dict(model.named_parameters())
    largest = max(norms.values())
    assert norms
    for key, expected in norms.items():
        gradient = ours[names[key]].grad
        assert gradient is not None, key
        assert abs(gradient.norm(dtype=summed).item() - expected) <= NORM_TOLERANCE * largest, key
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


def test_rd4ad_with_a_small_teacher() -> None:
    """Basic blocks; a training step with batch statistics."""
    case = CASES["rd_resnet18"]
    model = RD4AD(RD4ADConfig(backbone="resnet18", **BASIC_BLOCKS["resnet18"]), weights="random").eval()
    names = fill(model, "rd_resnet18", RD_RESNET18_NAMES)
    images = drawn(case["image_seed"], case["image_shape"])
    teacher, student = model(images)
    steps = {name: array["step"] for name, array in case["arrays"].items()}
    arrays = {f"encoder_{i}": t for i, t in enumerate(teacher)} | {f"decoder_{i}": s for i, s in enumerate(student)}
    prediction = model.predict(images)
    arrays |= {"embedding": model.embedding(*teacher), "map": prediction.anomaly_map, "score": prediction.score}
    check("rd_resnet18", {name: (value, steps[name]) for name, value in arrays.items()})
    assert model.loss(images).item() == pytest.approx(case["loss_eval"], rel=LOSS_TOLERANCE)

    step = case["train"]
    model.train()
    loss = model.loss(drawn(step["image_seed"], step["image_shape"]))
    assert loss.item() == pytest.approx(step["loss"], rel=LOSS_TOLERANCE)
    loss.backward()
    check_gradients("rd_resnet18", model, names)
    state = model.state_dict()
    check("rd_resnet18", {name: (state[names[key]], steps[name]) for name, key in step["bn_after"].items()})


def test_destseg() -> None:
    case = CASES["destseg_a"]
    model = DeSTSeg(DeSTSegConfig(), weights="random").eval()
    names = fill(model, "destseg_a", DESTSEG_NAMES)
    shape = (case["batch"], 3, case["side"], case["side"])
    corrupted, clean = drawn(case["augmented_seed"], shape), drawn(case["original_seed"], shape)
    spots = (drawn(case["mask_seed"], (case["batch"], 1, *shape[2:])) > 1.5).float()
    mask = nn.functional.max_pool2d(spots, 9, stride=1, padding=4)
    distances = distances_of(model.teach(clean), model.answer(corrupted))
    arrays = {f"distance_{i}": (distance, case["step"]) for i, distance in enumerate(distances)}
    found = model(corrupted)
    small = shrink(mask, found.shape[-1])
    check("destseg_a", arrays | {"segmentation": (found, case["step"]), "mask_small": (small, case["step"])})
    check_loss("destseg_a", focal_loss(found, small), "loss_focal")
    check_loss("destseg_a", (found - small).abs().mean(), "loss_l1")
    loss = model.student_loss(clean, corrupted)
    check_loss("destseg_a", loss, "loss_cosine")
    loss.backward()
    check_gradients("destseg_a", model, names, "student_of_loss_cosine", "destseg.student_net.")
    model.zero_grad()
    model.segmentation_loss(corrupted, mask).backward()
    check_gradients("destseg_a", model, names, "segmentation_of_loss_l1_plus_focal", "destseg.segmentation_net.")


@pytest.mark.parametrize("name", ["a", "b"])
def test_perlin_noise(name: str) -> None:
    case = CASES["perlin"]
    cells, array = case[name]["cells"], case["arrays"][name]
    turns = np.random.RandomState(case[name]["seed"]).rand(cells[0] + 1, cells[1] + 1)
    noise = perlin(torch.from_numpy(turns), array["shape"][0])
    check("perlin", {name: (noise, array["step"])})
    assert float((noise > 0.5).double().mean()) == case[name]["share_above_half"]


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
    parts: dict[str, Any] = {
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
        for ending in {"diad_small": ("keys.json", "npz"), "perlin": ("npz",)}.get(
            name, ("keys.json", "grads.json", "npz")
        ):
            assert Path(REFERENCE / "baselines" / f"{name}.{ending}").is_file()

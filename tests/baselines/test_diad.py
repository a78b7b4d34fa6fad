"""DiAD: schedule and sampling, what trains in which phase, published sizes, and Stable Diffusion's weights in files."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from small_run import MODEL, QUIETLY, SMALL_DIAD

from mambaad.baselines.diad.diffusion import add_noise, alphas_cumprod, ddim, ddim_step, ddim_times
from mambaad.baselines.diad.method import DiAD
from mambaad.baselines.diad.text import PREFIX, empty_prompt
from mambaad.baselines.diad.weights import load_named, load_stable_diffusion
from mambaad.config import DataConfig, DiADConfig, RunConfig, TrainConfig, small_form
from mambaad.data import load_dataset
from mambaad.efficiency import count_method
from mambaad.engine.train import train_run
from mambaad.model import CheckpointError
from mambaad.model.encoder_weights import weights_file_name

CONFIG = DiADConfig(backbone=MODEL.backbone, backbone_kwargs=MODEL.backbone_kwargs, **SMALL_DIAD)


def built(seed: int = 0, **changes: Any) -> DiAD:
    torch.manual_seed(seed)
    return DiAD(replace(CONFIG, **changes), "random")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


def smooth_images(number: int = 4, side: int = 64) -> torch.Tensor:
    """Images that a small autoencoder can learn: smooth and different."""
    return torch.nn.functional.interpolate(normal(number, 3, 4, 4), size=(side, side), mode="bilinear")


# -- schedule and sampling
@given(st.integers(2, 2000))
@settings(deadline=None, max_examples=30)
def test_the_schedule_falls_and_stays_between_one_and_zero(steps: int) -> None:
    shares = alphas_cumprod(steps)
    assert shares[0] == pytest.approx(1 - 0.00085)
    assert (np.diff(shares) < 0).all()
    assert shares[-1] > 0


@given(st.integers(2, 1000), st.data())
@settings(deadline=None, max_examples=30)
def test_sampling_times_fall_to_one(steps: int, data: Any) -> None:
    samples = data.draw(st.integers(1, steps - 1))
    times = ddim_times(steps, samples)
    assert len(times) == samples
    assert times[-1] == 1
    assert times == sorted(set(times), reverse=True)
    assert times[0] < steps


@given(st.integers(1, 39), st.integers(0, 10_000))
@settings(deadline=None, max_examples=20)
def test_ddim_with_the_true_noise_recovers_the_latent(samples: int, seed: int) -> None:
    clean, noise = normal(2, 4, 3, 3, seed=seed), normal(2, 4, 3, 3, seed=seed + 1)
    shares = alphas_cumprod(40)
    times = ddim_times(40, samples)
    noisy = add_noise(clean, noise, float(shares[times[0]]))
    assert torch.allclose(ddim_step(noisy, noise, float(shares[times[0]]), 1.0), clean, atol=1e-5)
    asked: list[int] = []

    def predicted(latent: torch.Tensor, time: int) -> torch.Tensor:
        asked.append(time)
        return noise

    found = ddim(noisy, shares, times, predicted)
    assert asked == times
    assert torch.allclose(found, add_noise(clean, noise, float(shares[0])), atol=1e-5)


# -- the guide
def test_the_guide_adds_nothing_before_training() -> None:
    model = built()
    latents, images, t = normal(2, 4, 16, 16), normal(2, 3, 64, 64), torch.tensor([3.0, 30.0])
    context = model.context.expand(2, -1, -1)
    controls = model.guide(latents, t, context, images)
    assert len(controls) == len(model.denoiser.input_blocks) + 1
    assert all((control == 0).all() for control in controls)
    assert torch.equal(model.noise_in(latents, t, images), model.denoiser(latents, t, context))
    for part in ("time_embed", "input_blocks", "middle_block"):
        pairs = zip(getattr(model.guide, part).parameters(), getattr(model.denoiser, part).parameters(), strict=True)
        assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


def test_the_fusion_never_leaves_zero_as_both_of_its_ends_start_there() -> None:
    model = built(autoencoder_share=0.0)
    optimizers = model.optimizers(TrainConfig(lr=1e-3))
    for step in range(4):
        model.loss(smooth_images(), progress=step / 4).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    sources = model.guide.zero_convs[model.guide.sources]
    for module in (*sources.modules(), *model.guide.fusion.modules()):
        for parameter in module.parameters(recurse=False):
            assert (parameter == 0).all()
    targets = model.guide.zero_convs[model.guide.targets]
    assert all((conv.get_submodule("0").get_parameter("weight") != 0).any() for conv in targets)
    # with other values than zero it works
    for parameter in (*sources.parameters(), *model.guide.fusion.parameters()):
        torch.nn.init.normal_(parameter)
    model.loss(smooth_images(), progress=0.5).backward()
    assert all(p.grad is not None and (p.grad != 0).any() for p in model.guide.fusion.parameters())


def test_images_that_leave_the_fusion_one_position_are_refused() -> None:
    model = built(multipliers=(1, 1, 1, 1, 1))
    for call in (model.predict, model.loss):
        with pytest.raises(ValueError, match="a side divisible by 64 and above it, in pixels, got 64"):
            call(normal(1, 3, 64, 64))


# -- training
def test_each_phase_trains_its_own_parts() -> None:
    model = built()
    optimizers = model.optimizers(TrainConfig(lr=1e-3))
    before = {key: value.clone() for key, value in model.state_dict().items()}

    def moved(progress: float) -> set[str]:
        start = {key: value.clone() for key, value in model.state_dict().items()}
        for _ in range(2):
            model.loss(smooth_images(), progress).backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
        return {key for key, value in model.state_dict().items() if not torch.equal(value, start[key])}

    first, second = moved(0.0), moved(0.5)
    assert {key.split(".")[0] for key in first} == {"autoencoder", "latent_scale"}
    assert {key.split(".")[0] for key in second} == {"denoiser", "guide", "context"}
    assert {key.split(".")[1] for key in second if key.startswith("denoiser.")} == {"output_blocks", "out"}
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items() if k.startswith("encoder."))


def test_all_of_the_denoiser_trains_if_asked() -> None:
    model = built(train_encoder_half=True)
    model.diffusion_loss(smooth_images()).backward()
    assert all(p.grad is not None for p in model.denoiser.parameters())
    assert all(p.grad is None for p in model.autoencoder.parameters())


def test_a_defect_free_image_reproduces_itself_better_after_training() -> None:
    images = smooth_images(side=32)
    model = built()
    before = (model(images) - images).abs().mean()
    optimizers = model.optimizers(TrainConfig(lr=2e-3))
    losses: list[float] = []
    for step in range(100):
        loss = model.loss(images, step / 100)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
    assert np.mean(losses[40:50]) < 0.6 * np.mean(losses[:10])
    assert np.mean(losses[90:]) < 0.8 * np.mean(losses[50:60])
    assert (model(images) - images).abs().mean() < 0.6 * before


def test_scores_do_not_depend_on_the_batch() -> None:
    model, images = built(), normal(3, 3, 64, 64)
    together = model.predict(images)
    alone = [model.predict(image[None]) for image in images]
    assert torch.allclose(together.score, torch.cat([one.score for one in alone]), atol=1e-5)
    assert torch.allclose(together.anomaly_map, torch.cat([one.anomaly_map for one in alone]), atol=1e-5)
    other = built(noise_seed=1)
    other.load_state_dict(model.state_dict())
    assert not torch.allclose(other.predict(images).anomaly_map, together.anomaly_map, atol=1e-5)


# -- sizes
def test_counts_are_those_of_the_published_parts() -> None:
    counted = count_method("diad")
    boxes = counted.boxes
    assert counted.params_m == pytest.approx(1331.392, abs=5e-4)
    for part, params, flops in (
        ("denoiser", 859.521, 90.05),
        ("guide", 471.871, 33.11),
        ("autoencoder_encode", 34.164, 136.67),
        ("autoencoder_decode", 49.490, 311.69),
    ):
        assert boxes[part]["params_m"] == pytest.approx(params, abs=5e-4)
        assert boxes[part]["flops_g"] / boxes[part]["calls"] == pytest.approx(flops, rel=2e-3)
    assert counted.flops_g == pytest.approx(sum(box["flops_g"] for box in boxes.values()))
    assert counted.beside_params_m == pytest.approx(34.164 + 49.490 + 8.543, abs=2e-3)


def test_the_published_trained_parts_have_their_size() -> None:
    with torch.device("meta"):
        model = DiAD(DiADConfig(), "random")
    trained = sum(p.numel() for p in model.denoiser.parameters() if p.requires_grad)
    assert trained / 1e6 == pytest.approx(510.808, abs=5e-4)
    assert sum(p.numel() for p in model.guide.fusion.parameters()) / 1e6 == pytest.approx(110.592, abs=5e-4)
    assert sum(p.numel() for p in model.guide.input_hint_block.parameters()) / 1e6 == pytest.approx(1.086, abs=5e-4)


def test_the_reduced_form_has_latents_of_16_by_16() -> None:
    for side in (64, 128):
        changes, recipe = small_form("diad", side)
        config = DiADConfig(**changes)
        assert side // 2 ** (len(config.autoencoder_multipliers) - 1) == 16
        assert recipe.steps


# -- weights of Stable Diffusion
def layout(model: DiAD, half: bool = False) -> dict[str, torch.Tensor]:
    """A model's tensors as a file of Stable Diffusion holds them."""
    parts = {"first_stage_model.": model.autoencoder, "model.diffusion_model.": model.denoiser}
    state = {prefix + key: value for prefix, part in parts.items() for key, value in part.state_dict().items()}
    state["cond_stage_model.transformer.text_model.final_layer_norm.weight"] = torch.ones(16)
    return {key: (value.half() if half else value).clone().contiguous() for key, value in state.items()}


@pytest.mark.parametrize("kind", ["weights.safetensors", "weights.ckpt", "weights.pth"])
def test_weights_are_read_from_a_file_of_the_published_layout(kind: str, tmp_path: Path) -> None:
    source, path = built(seed=1), tmp_path / kind
    state = layout(source, half=kind.endswith("ckpt"))
    if kind.endswith("safetensors"):
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "global_step": 3} if kind.endswith("ckpt") else state, path)
    model = built(seed=2)
    load_stable_diffusion(model, path)
    for key, value in layout(model).items():
        assert torch.equal(value, state[key].float()), key
    for part in ("time_embed", "input_blocks", "middle_block"):
        pairs = zip(getattr(model.guide, part).parameters(), getattr(model.denoiser, part).parameters(), strict=True)
        assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
    assert all((p == 0).all() for p in model.guide.zero_convs.parameters())


def without(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if not key.startswith(prefix)}


KEY = "model.diffusion_model.out.2.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without("first_stage_model.", s), "holds no autoencoder: .* diffusers layout has other names"),
        (lambda s: {k.replace("model.diffusion_model.", "unet."): v for k, v in s.items()}, "holds no denoiser"),
        (lambda s: without(KEY, s), rf"1 missing \(first: {KEY}\)"),
        (lambda s: {**s, "model.diffusion_model.odd": torch.ones(1)}, r"1 without a place \(first: .*odd\)"),
        (lambda s: {**s, KEY: torch.ones(4, 64, 3, 3)}, r"denoiser \(width 32\): .* 1 of another shape"),
    ],
)
def test_files_that_do_not_fit_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    save_file(change(layout(built())), tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match=message):
        load_stable_diffusion(built(), tmp_path / "weights.safetensors")


class Loud:
    """Would be executed by a reader of pickles."""

    def __reduce__(self) -> Any:
        return pytest.fail, ("a pickle was executed",)


def test_files_that_are_no_weights_are_refused_and_nothing_is_executed(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"no weights")
    torch.save({"state_dict": layout(built()), "callbacks": Loud()}, tmp_path / "b.ckpt")
    (tmp_path / "c.ckpt").write_bytes(pickle.dumps(Loud()))
    for name, message in (
        ("a.safetensors", "not a safetensors file"),
        ("b.ckpt", r"not a checkpoint of tensors .* a \.safetensors file of the same weights can be read"),
        ("c.ckpt", "not a checkpoint of tensors"),
        ("d.safetensors", "do not exist"),
        ("d.ckpt", "does not exist"),
    ):
        with pytest.raises(CheckpointError, match=message):
            load_stable_diffusion(built(), tmp_path / name)


def text_encoder(width: int = 128, layers: int = 2, words: int = 12, length: int = 5) -> dict[str, torch.Tensor]:
    """A small text encoder's tensors as Stable Diffusion's file names them."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.token_embedding.weight": (words, width),
        "embeddings.position_embedding.weight": (length, width),
    }
    shapes |= {f"final_layer_norm.{kind}": (width,) for kind in ("weight", "bias")}
    for n in range(layers):
        layer = f"encoder.layers.{n}."
        for name, shape in (
            *((f"self_attn.{part}_proj", (width, width)) for part in ("q", "k", "v", "out")),
            ("mlp.fc1", (4 * width, width)),
            ("mlp.fc2", (width, 4 * width)),
        ):
            shapes |= {f"{layer}{name}.weight": shape, f"{layer}{name}.bias": shape[:1]}
        shapes |= {f"{layer}layer_norm{i}.{kind}": (width,) for i in (1, 2) for kind in ("weight", "bias")}
    return {
        PREFIX + name: normal(*shape, seed=i) / (shape[-1] ** 0.5 if len(shape) > 1 else 1)
        for i, (name, shape) in enumerate(shapes.items())
    }


def test_the_empty_prompt_agrees_with_torch_s_own_transformer() -> None:
    tensors = {name.removeprefix(PREFIX): value for name, value in text_encoder().items()}
    x = (
        tensors["embeddings.token_embedding.weight"][[10, 11, 11, 11, 11]]
        + tensors["embeddings.position_embedding.weight"]
    )
    for n in range(2):
        own = {
            k.removeprefix(f"encoder.layers.{n}."): v
            for k, v in tensors.items()
            if k.startswith(f"encoder.layers.{n}.")
        }
        layer = torch.nn.TransformerEncoderLayer(
            128, 2, 512, dropout=0.0, activation=lambda h: h * torch.sigmoid(1.702 * h), norm_first=True
        )
        state = {f"norm{i}.{kind}": own[f"layer_norm{i}.{kind}"] for i in (1, 2) for kind in ("weight", "bias")}
        for kind in ("weight", "bias"):
            state[f"self_attn.in_proj_{kind}"] = torch.cat([own[f"self_attn.{p}_proj.{kind}"] for p in "qkv"])
            state[f"self_attn.out_proj.{kind}"] = own[f"self_attn.out_proj.{kind}"]
            state |= {f"linear{i}.{kind}": own[f"mlp.fc{i}.{kind}"] for i in (1, 2)}
        layer.load_state_dict(state)
        with torch.no_grad():
            x = layer(x[:, None], src_mask=torch.nn.Transformer.generate_square_subsequent_mask(5))[:, 0]
    expected = torch.nn.functional.layer_norm(
        x, (128,), tensors["final_layer_norm.weight"], tensors["final_layer_norm.bias"]
    )
    assert torch.allclose(empty_prompt(tensors), expected, atol=1e-4)


def test_a_constant_context_is_the_empty_prompt_of_the_file(tmp_path: Path) -> None:
    changes = {"learned_context": False, "context_tokens": 5, "context_width": 128}
    model, text, path = built(**changes), text_encoder(), tmp_path / "weights.safetensors"
    save_file(without(PREFIX, layout(model)) | text, path)
    load_stable_diffusion(model, path)
    expected = empty_prompt({name.removeprefix(PREFIX): value for name, value in text.items()})
    assert torch.equal(model.context, expected)
    assert not model.context.requires_grad
    with pytest.raises(CheckpointError, match=r"gives a context of \(5, 128\), DiAD's is \(4, 128\)"):
        load_stable_diffusion(built(**{**changes, "context_tokens": 4}), path)
    save_file(without(PREFIX, layout(model)), path)
    with pytest.raises(CheckpointError, match="no CLIP text encoder that can be read"):
        load_stable_diffusion(model, path)


def test_a_run_starts_from_the_file_that_it_names_and_no_other(drawn: Path, tmp_path: Path) -> None:
    source, path = built(seed=1, autoencoder_share=0.0), tmp_path / "weights.safetensors"
    save_file(layout(source), path)
    named = replace(source.config, diffusion_weights=weights_file_name(path))
    run = RunConfig(
        model=named,
        encoder_weights="random",
        data=DataConfig(side=64, categories=("gear",)),
        train=TrainConfig(steps=1, batch_size=4, lr=1e-3),
    )
    samples = load_dataset("synthetic", drawn)
    trained: Any = train_run(run, samples, diffusion_file=path, execution=QUIETLY).model
    for key, value in source.denoiser.input_blocks.state_dict().items():
        assert torch.equal(trained.denoiser.input_blocks.state_dict()[key], value)
    with pytest.raises(CheckpointError, match="pass the file, got None"):
        train_run(run, samples, execution=QUIETLY)
    other: Any = DiAD(replace(named, diffusion_weights="weights.safetensors@000000000000"), "random")
    with pytest.raises(CheckpointError, match=r"000000000000, and the file is weights\.safetensors@"):
        load_named(other, path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 48}, "width must be a multiple of 32, got 48"),
        ({"autoencoder_width": 16}, "autoencoder_width must be a multiple of 32"),
        ({"hint_widths": (8, 8)}, "one entry per autoencoder level, got 2 for 3"),
        ({"heads": 5}, "divisible by the heads"),
        ({"multipliers": (1,)}, "two multipliers or more"),
        ({"sampling_steps": 40}, "sampling_steps must be positive and divide steps"),
        ({"sampling_steps": 3}, "sampling_steps must be positive and divide steps"),
        ({"steps": 200_000}, "at most 100000"),
        ({"heads": 0}, "heads must be positive"),
        ({"blocks": 0}, "^blocks must be positive"),
        ({"context_tokens": 0}, "context_tokens must be positive"),
        ({"latent_channels": 0}, "latent_channels must be positive"),
        ({"latent_scale": 0.0}, "latent_scale must be positive"),
        ({"multipliers": (0, 1)}, "multipliers must be positive"),
        ({"autoencoder_lr": -1.0}, "autoencoder_lr must be positive"),
        ({"autoencoder_share": 1.0}, r"autoencoder_share must be in \[0, 1\)"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **changes)

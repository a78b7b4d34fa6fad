"""Properties of the other methods: learning, predicting, counts, checkpoints, and errors that say what to do."""

import inspect
import math
import time
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from small_run import MODEL, QUIETLY, SMALL_DIAD
from torch import nn

from mambaad.baselines import CLASSES, build_method, keeps_features, load_method
from mambaad.baselines.memory_bank import MemoryBank
from mambaad.baselines.method import (
    EncodingMethod,
    FeatureMethod,
    FinishedMethod,
    FittedMethod,
    Method,
    TrainedMethod,
    scores_of,
)
from mambaad.baselines.uniad import FeatureTransformer, attend, neighbour_mask
from mambaad.config import (
    METHOD_CONFIGS,
    METHODS,
    DeSTSegConfig,
    DiADConfig,
    MambaADBankConfig,
    MemoryBankConfig,
    RD4ADConfig,
    RunConfig,
    SimpleNetConfig,
    TrainConfig,
    UniADConfig,
    run_config_from_dict,
    to_dict,
)
from mambaad.data import load_dataset
from mambaad.data.synthetic.generate import write_synthetic
from mambaad.efficiency import count, count_method
from mambaad.engine.evaluate import evaluate_run
from mambaad.engine.train import train_run
from mambaad.model import CheckpointError, load_checkpoint, save_checkpoint

SMALL: dict[str, Any] = {"backbone": MODEL.backbone, "backbone_kwargs": MODEL.backbone_kwargs}
CONFIGS: dict[str, Any] = {
    "mambaad": MODEL,
    "rd4ad": RD4ADConfig(**SMALL, block="basic", embedding_blocks=1, decoder_blocks=(1, 1, 1)),
    "uniad": UniADConfig(**SMALL, side=64, width=32, heads=2, layers=1, feedforward=32),
    "simplenet": SimpleNetConfig(**SMALL, width=48, hidden=32),
    "destseg": DeSTSegConfig(**SMALL, student="mobilenetv2_050", width=32),
    "diad": DiADConfig(**SMALL, **SMALL_DIAD),
    "memory_bank": MemoryBankConfig(**SMALL, entries=64),
    "mambaad_bank": MambaADBankConfig(**SMALL, network=MODEL, entries=64),
}
LR = dict.fromkeys(CONFIGS, 1e-3) | {"rd4ad": 5e-3, "destseg": 0.05}
HOLDOUT = {"mambaad_bank": 0.3}
FROM_IMAGES = ("destseg", "diad")  # trained on images, so that no features can be kept


def run_of(name: str, steps: int = 6, seed: int = 0) -> RunConfig:
    run = RunConfig(model=CONFIGS[name], encoder_weights="random")
    data = replace(run.data, side=64, categories=("gear",))
    return replace(
        run,
        data=data,
        train=TrainConfig(steps=steps, batch_size=4, lr=LR[name], seed=seed, holdout=HOLDOUT.get(name, 0)),
    )


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    root = write_synthetic(tmp_path_factory.mktemp("set") / "data", side=64, train=8, test=6, categories=("gear",))
    return load_dataset("synthetic", root)


def images(number: int = 2, side: int = 64) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(0).standard_normal((number, 3, side, side)).astype(np.float32))


def test_every_method_has_settings_a_class_and_a_small_form() -> None:
    assert set(METHODS) == set(CLASSES) == set(CONFIGS)


def test_the_score_of_uniad_is_the_maximum_of_means_of_its_map() -> None:
    model: Any = build_method(CONFIGS["uniad"], "random")
    found = model.predict(images(3))
    expected = [ndimage.uniform_filter(one, 16)[8:57, 8:57].max() for one in found.anomaly_map.double().numpy()]
    assert found.score.tolist() == pytest.approx(expected, rel=1e-5)
    assert (found.score < found.anomaly_map.flatten(1).amax(1)).all()


@pytest.mark.parametrize("name", METHODS)
def test_methods_follow_the_interface_and_predict(name: str) -> None:
    model: Any = build_method(CONFIGS[name], "random")
    assert isinstance(model, Method)
    assert isinstance(model, TrainedMethod) != isinstance(model, FittedMethod)
    if isinstance(model, FittedMethod):
        model.fit([model.encode(images(3))], 3, 64, 0)
    else:
        assert isinstance(model, FeatureMethod) == keeps_features(model.config) == (name not in FROM_IMAGES)
    if isinstance(model, FinishedMethod):
        model.finish([images(3)], [images(1)], 3, 64, 0)
    model.train()
    prediction = model.predict(images())
    assert cast(nn.Module, model).training
    assert prediction.anomaly_map.shape == (2, 64, 64)
    assert prediction.score.shape == (2,)
    assert torch.equal(prediction.score, scores_of(model, prediction.anomaly_map)), "evaluation has the maps alone"
    assert torch.isfinite(prediction.anomaly_map).all()
    assert not prediction.anomaly_map.requires_grad
    assert torch.equal(prediction.anomaly_map, model.predict(images()).anomaly_map)
    with pytest.raises(ValueError, match="square"):
        model.predict(images()[..., :32])


@pytest.mark.parametrize("name", METHODS)
def test_the_interface_asks_for_nothing_that_only_nn_module_finds(name: str) -> None:
    """From Python 3.12 on, isinstance looks for a protocol's members without `__getattr__`, and finds no submodule."""
    model = build_method(CONFIGS[name], "random")
    kind = FittedMethod if name == "memory_bank" else TrainedMethod
    for base in kind.__mro__:
        if getattr(base, "_is_protocol", False) and base.__module__.startswith("mambaad."):
            for member in (*vars(base), *inspect.get_annotations(base)):
                if not member.startswith("_"):
                    inspect.getattr_static(model, member)  # raises AttributeError


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("memory_bank", *FROM_IMAGES)])
def test_training_reduces_the_loss_and_moves_only_what_is_trained(name: str, samples: list[Any]) -> None:
    untrained = train_run(run_of(name, steps=1), samples).model
    result = train_run(run_of(name, steps=30), samples)
    losses = [loss for _, loss in result.loss]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    before, after = untrained.state_dict(), result.model.state_dict()
    for key, value in after.items():
        if "encoder.net." in key:
            assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("name", METHODS)
def test_a_run_is_repeatable_recorded_and_its_checkpoint_predicts_the_same(
    name: str, samples: list[Any], tmp_path: Any
) -> None:
    run = run_of(name)
    first = train_run(run, samples, out=tmp_path / "a")
    second = train_run(run, samples, out=tmp_path / "b")
    assert first.loss == second.loss
    loaded = load_method(tmp_path / "a" / "checkpoint.pth")
    expected = first.model.predict(images())
    assert torch.equal(loaded.predict(images()).anomaly_map, expected.anomaly_map)
    assert loaded.config == CONFIGS[name]
    metrics = evaluate_run(loaded, run, samples)
    assert 0 <= metrics["exact"]["mean"]["mad"] <= 100
    assert run_config_from_dict(to_dict(run)) == run


@pytest.mark.parametrize("name", ["rd4ad", "uniad", "simplenet", "destseg", "diad"])
def test_training_resumes_to_the_same_weights(name: str, samples: list[Any], tmp_path: Any, monkeypatch: Any) -> None:
    from mambaad.engine import train

    run = run_of(name)
    whole = train_run(run, samples)
    advance = train.TrainingState.advance

    def interrupted(self: Any, value: float) -> None:
        advance(self, value)
        if self.step == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(train.TrainingState, "advance", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_run(run, samples, out=tmp_path, checkpoint_every=2)
    monkeypatch.undo()
    continued = train_run(run, samples, out=tmp_path)
    assert continued.loss == whole.loss
    states = zip(continued.model.state_dict().values(), whole.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in states)


# -- counts
@pytest.mark.parametrize(
    ("name", "params", "flops"),
    [("rd4ad", "80.6", "28.4"), ("uniad", "24.5", "3.6"), ("simplenet", "72.8", "16.1"), ("mambaad", "25.7", "8.3")],
)
def test_counts_are_those_that_table_6_prints(name: str, params: str, flops: str) -> None:
    counted = count_method(name)
    assert (f"{counted.params_m:.1f}", f"{counted.flops_g:.1f}") == (params, flops)


def test_counts_leave_out_what_does_not_run() -> None:
    assert count_method("simplenet").unused_params_m == pytest.approx(44.021, abs=0.001)
    assert count_method("uniad").unused_params_m == pytest.approx(13.106, abs=0.001)
    assert count(CONFIGS["rd4ad"], side=64).flops_g < count_method("rd4ad").flops_g
    with pytest.raises(ValueError, match="must be one of 'rd4ad'"):
        count_method("patchcore")


def test_destseg_is_printed_as_four_times_a_count_without_its_fusion() -> None:
    """35.2 is right; 122.7 is four times what remains without the fusion convolution, and with what we do not count:
    the printed counter takes 4 per value of an upsampling."""
    counted = count_method("destseg")
    assert f"{counted.params_m:.3f}" == "35.154"
    assert f"{counted.flops_g:.1f}" == "40.3"
    assert counted.repeated_flops_g == counted.boxes["encoder"]["flops_g"]
    assert sum(box["flops_g"] for box in counted.boxes.values()) + counted.repeated_flops_g == counted.flops_g
    fusion = 64 * 64 * 1024 * 256 * 9 / 1e9
    assert counted.boxes["segmentation"]["fusion_flops_g"] == pytest.approx(fusion)
    assert 4 * (counted.flops_g - fusion) == pytest.approx(122.7, rel=1e-3)


# -- UniAD's mask
@given(side=st.integers(4, 12), neighbours=st.integers(0, 12))
def test_the_neighbour_mask_hides_a_square_around_each_token(side: int, neighbours: int) -> None:
    reach = neighbours // 2
    if reach >= side // 2:
        with pytest.raises(ValueError, match="nothing to see"):
            neighbour_mask(side, neighbours)
        return
    mask = neighbour_mask(side, neighbours).view(side, side, side, side)
    rows = torch.arange(side)
    for r in range(side):
        for c in range(side):
            near = ((rows - r).abs() <= reach)[:, None] & ((rows - c).abs() <= reach)
            assert torch.equal(mask[r, c], near)
    assert not mask.view(side**2, -1).all(1).any()


def test_attention_takes_nothing_from_masked_tokens() -> None:
    torch.manual_seed(0)
    config = replace(CONFIGS["uniad"], side=128)
    transformer = FeatureTransformer(16, config).eval()
    queries, values = torch.randn(64, 1, config.width), torch.randn(64, 1, config.width, requires_grad=True)
    position = torch.zeros(64, 1, config.width)
    token = 27
    layer: Any = transformer.encoder[0]
    out = attend(layer.attention, queries, values, position, transformer.mask)
    (gradient,) = torch.autograd.grad(out[token].square().sum(), values)
    hidden = transformer.mask[token]
    assert hidden[token]
    assert not gradient[hidden].any()
    assert gradient[~hidden].abs().amax(dim=(1, 2)).all()


# -- memory bank
@settings(max_examples=10)
@given(seed=st.integers(0, 100))
def test_an_unreduced_bank_knows_its_training_images(seed: int) -> None:
    torch.manual_seed(seed)
    model = MemoryBank(replace(CONFIGS["memory_bank"], entries=10_000), "random").eval()
    known, other = torch.randn(3, 3, 64, 64), torch.randn(2, 3, 64, 64)
    model.fit([model.encode(known[:2]), model.encode(known[2:])], 3, 64, seed)
    assert len(model.entries) == 3 * 8 * 8
    assert model(known).max() < 2e-2 * model(other).max()
    assert model(other).min() > 0


def test_the_bank_does_not_depend_on_batches() -> None:
    torch.manual_seed(0)
    model = MemoryBank(CONFIGS["memory_bank"], "random").eval()
    data = torch.randn(4, 3, 64, 64)
    features = [model.encode(image[None]) for image in data]
    model.fit(features, 4, 64, 0)
    one_by_one = model.entries
    joined = [torch.cat(scale) for scale in zip(*features, strict=True)]
    model.fit([joined], 4, 64, 0)
    assert torch.allclose(model.entries, one_by_one, atol=1e-5)
    with pytest.raises(ValueError, match="from 5 images, got 4"):
        model.fit([joined], 5, 64, 0)


def test_an_empty_bank_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="fit it, or load a checkpoint"):
        MemoryBank(CONFIGS["memory_bank"], "random").predict(images())


# -- errors
def test_checkpoints_say_which_method_they_are_of(tmp_path: Any) -> None:
    model: Any = build_method(CONFIGS["rd4ad"], "random")
    save_checkpoint(tmp_path / "a.pth", model)
    with pytest.raises(CheckpointError, match=r"'rd4ad': load it with mambaad\.baselines\.load_method"):
        load_checkpoint(tmp_path / "a.pth")
    state = {"config": {**to_dict(CONFIGS["rd4ad"]), "block": "round"}, "state_dict": model.state_dict()}
    with pytest.raises(CheckpointError, match="does not fit the method 'rd4ad': block: Input should be"):
        load_method(state)
    with pytest.raises(CheckpointError, match="is of the method 'nothing', and there are mambaad"):
        load_method({"config": {"method": "nothing"}, "state_dict": {}})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RD4ADConfig(embedding_blocks=0), "must be positive"),
        (lambda: RD4ADConfig(method="uniad"), "method must be one of 'rd4ad'"),
        (lambda: UniADConfig(side=100), "multiple of 32"),
        (lambda: UniADConfig(width=20), "divisible by twice the heads"),
        (lambda: UniADConfig(jitter=math.nan), "jitter finite and not negative"),
        (lambda: MemoryBankConfig(entries=0), "entries must be positive"),
        (lambda: SimpleNetConfig(discriminator_lr=-1), "discriminator_lr must be positive and finite, got -1"),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in (*FROM_IMAGES, "memory_bank")])
def test_kept_features_train_as_those_of_every_step(name: str, samples: list[Any]) -> None:
    """They lie otherwise in memory; no random number may depend on that."""
    run = run_of(name, steps=1)  # more would amplify the rounding
    kept = train_run(run, samples, execution=replace(QUIETLY, features="float32"))
    anew = train_run(run, samples, execution=QUIETLY)
    assert [loss for _, loss in kept.loss] == pytest.approx([loss for _, loss in anew.loss], rel=1e-5)


def test_huge_settings_of_a_small_file_are_refused_before_anything_is_built() -> None:
    started = time.perf_counter()
    content = {"config": {**to_dict(CONFIGS["diad"]), "blocks": 10_000}, "state_dict": {"x": torch.zeros(1)}}
    with pytest.raises(CheckpointError, match="does not fit"):
        load_method(content)
    assert time.perf_counter() - started < 5


def test_uniad_takes_the_side_it_was_built_for() -> None:
    model: Any = build_method(CONFIGS["uniad"], "random")
    with pytest.raises(ValueError, match="position tables are for images of 64 pixels, got 96"):
        model.predict(images(side=96))
    assert isinstance(model, EncodingMethod)
    assert set(METHOD_CONFIGS) == set(METHODS) - {"mambaad"}

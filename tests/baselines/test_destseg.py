"""DeSTSeg: two phases that each move one network, and synthetic anomalies that are where the mask says."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mambaad import cli
from mambaad.baselines.destseg import DeSTSeg, focal_loss, shrink, unit
from mambaad.baselines.synthetic_anomalies import (
    corrupt,
    perlin,
    procedural_texture,
    random_mask,
    texture_source,
    textures_name,
)
from mambaad.config import DeSTSegConfig, TrainConfig, published_recipe
from mambaad.data import DatasetError

CONFIG = DeSTSegConfig(backbone="mobilenetv2_050", student="mobilenetv2_050", width=16)
MEAN, STD = CONFIG.mean, CONFIG.std


@pytest.fixture
def model() -> DeSTSeg:
    torch.manual_seed(0)
    return DeSTSeg(CONFIG, "random").train()


@pytest.fixture
def textures(tmp_path: Path) -> Path:
    """Two classes in DTD's layout: all images of one colour each, 200 and 50."""
    for name, value in (("banded", 200), ("woven", 50)):
        for i in range(2):
            path = tmp_path / "dtd" / "images" / name / f"{name}_{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 30), (value, value, value)).save(path)
    (tmp_path / "dtd" / "labels").mkdir()
    (tmp_path / "dtd" / "labels" / "train1.txt").touch()
    return tmp_path / "dtd"


def changed(before: dict[str, torch.Tensor], model: DeSTSeg) -> set[str]:
    after = model.state_dict()
    return {key.split(".")[0] for key, value in after.items() if not torch.equal(value, before[key])}


def step(model: DeSTSeg, optimizers: list[torch.optim.Optimizer], progress: float) -> float:
    loss = model.loss(torch.randn(4, 3, 64, 64), progress)
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return loss.item()


@pytest.mark.parametrize(("progress", "moving"), [(0.0, "student"), (0.19, "student"), (0.2, "segmentation")])
def test_a_phase_moves_one_network_and_its_statistics_only(model: DeSTSeg, progress: float, moving: str) -> None:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    step(model, model.optimizers(TrainConfig(lr=0.01)), progress)
    assert changed(before, model) == {moving}
    assert (model.student.training, model.segmentation.training) == (moving == "student", moving != "student")
    assert not model.encoder.training


def test_both_phases_learn(model: DeSTSeg) -> None:
    for progress, lr in ((0.0, 0.05), (0.5, 0.4)):
        optimizers = model.optimizers(TrainConfig(lr=lr))
        losses = [step(model, optimizers, progress) for _ in range(24)]
        assert np.mean(losses[-6:]) < 0.97 * np.mean(losses[:6]), progress


def test_learning_rates_are_the_published_ones() -> None:
    recipe = published_recipe("destseg")
    student, segmentation = DeSTSeg(CONFIG, "random").optimizers(recipe)
    assert [group["lr"] for group in student.param_groups] == [0.4, 0.4]
    assert [group["weight_decay"] for group in student.param_groups] == [1e-4, 0]
    assert [group["lr"] for group in segmentation.param_groups] == pytest.approx([0.1, 0.01])
    assert {group["momentum"] for o in (student, segmentation) for group in o.param_groups} == {0.9}
    assert (recipe.batch_size, recipe.decay) == (32, 1.0)


def test_the_student_answers_in_the_teacher_s_shapes(model: DeSTSeg) -> None:
    model.eval()
    images = torch.randn(2, 3, 96, 96)
    teacher, student = model.teach(images), model.answer(images)
    assert [t.shape for t in teacher] == [s.shape for s in student]
    assert [t.shape[-1] for t in teacher] == [24, 12, 6]
    for scale in (*teacher, *student):
        length = scale.norm(dim=1)
        assert ((length - 1).abs() < 1e-5).logical_or(length == 0).all()
    assert torch.equal(unit(torch.zeros(1, 4, 2, 2)), torch.zeros(1, 4, 2, 2))


def test_a_single_image_is_refused_before_anything_is_trained(model: DeSTSeg) -> None:
    with pytest.raises(ValueError, match="at least two images per step"):
        model.loss(torch.randn(1, 3, 64, 64))
    model.eval()
    assert torch.isfinite(model.loss(torch.randn(1, 3, 64, 64), 0.5))


def test_the_focal_loss_by_hand() -> None:
    found, wanted = torch.tensor([[[[0.9], [0.2]]]]).expand(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    expected = (-np.log(0.9) * 0.1**4 - np.log(0.2) * 0.8**4) / 2
    assert focal_loss(found, wanted).item() == pytest.approx(expected, rel=1e-5)
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2, 0] = mask[..., 2:, 2:] = 1  # half of one position, all of another
    assert shrink(mask, 2).tolist() == [[[[1, 0], [0, 1]]]]


# -- synthetic anomalies
@settings(max_examples=20, deadline=None)
@given(kx=st.sampled_from([1, 2, 8, 32]), ky=st.sampled_from([1, 4, 16]), seed=st.integers(0, 99))
def test_perlin_noise_is_zero_at_the_corners_of_its_cells_and_bounded(kx: int, ky: int, seed: int) -> None:
    turns = torch.rand(kx + 1, ky + 1, generator=torch.Generator().manual_seed(seed))
    noise = perlin(turns, 64)
    assert noise.shape == (64, 64)
    assert noise.abs().max() <= 1.0 + 1e-5
    assert noise[:: 64 // kx, :: 64 // ky].abs().max() < 1e-5


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_an_image_is_changed_inside_the_mask_only(seed: int) -> None:
    torch.manual_seed(seed)
    images = torch.randn(2, 3, 32, 32)
    corrupted, masks = corrupt(images, lambda side: torch.full((3, side, side), 0.25), MEAN, STD)
    inside = masks.bool().expand_as(images)
    assert torch.equal(corrupted[~inside], images[~inside])
    texture = (0.25 - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    opacity = (corrupted - texture) / (images - texture)
    for one, where in zip(opacity, inside, strict=True):
        if where.any():
            shares = one[where]
            assert shares.max() - shares.min() < 1e-2
            assert -1e-3 < shares.median() < 0.8 + 1e-3


def test_masks_differ_and_leave_most_of_an_image_alone() -> None:
    torch.manual_seed(0)
    shares = torch.stack([random_mask(64).float().mean() for _ in range(200)])
    assert 0.02 < shares.mean() < 0.2
    assert shares.unique().numel() > 50


def test_procedural_textures_have_values_of_images_and_differ() -> None:
    torch.manual_seed(0)
    found = torch.stack([procedural_texture(64) for _ in range(20)])
    assert 0 <= found.min() <= found.max() <= 1
    assert (found.flatten(1).std(1) > 0.01).all()
    means = found.mean((2, 3))
    assert torch.cdist(means, means).fill_diagonal_(1).min() > 1e-3


def test_textures_come_from_the_folder_that_is_named(textures: Path, model: DeSTSeg) -> None:
    name = textures_name(textures)
    assert name.startswith("dtd@")
    source = texture_source(name, textures)
    torch.manual_seed(0)
    assert {round(255 * float(source(16).mean())) for _ in range(20)} == {50, 200}
    named = DeSTSeg(replace(CONFIG, textures=name), "random")
    named.use_textures(textures)
    assert torch.isfinite(named.loss(torch.randn(2, 3, 64, 64)))
    with pytest.raises(DatasetError, match="name the folder that holds them"):
        named.use_textures(None)
    with pytest.raises(DatasetError, match="leave the folder out"):
        model.use_textures(textures)
    (textures / "images" / "woven" / "woven_0.png").unlink()
    with pytest.raises(DatasetError, match="expected the textures dtd@"):
        named.use_textures(textures)
    with pytest.raises(DatasetError, match="found none"):
        textures_name(textures / "labels")


def test_several_processes_have_the_students_gradient_of_one(model: DeSTSeg, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its loss is a sum over the batch; gradients are averaged over the processes."""
    images = torch.randn(2, 3, 64, 64)
    model.eval()
    torch.manual_seed(0)
    alone = model.loss(images, 0.0)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    torch.manual_seed(0)
    assert torch.allclose(model.loss(images, 0.0), 2 * alone)
    torch.manual_seed(0)
    segmentation = model.loss(images, 0.9)
    monkeypatch.undo()
    torch.manual_seed(0)
    assert torch.equal(segmentation, model.loss(images, 0.9))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"student_share": 1.0}, "student_share must be between 0 and 1"),
        ({"textures": "a/b"}, "the name@hash of a folder"),
        ({"textures": ""}, "the name@hash of a folder"),
        ({"head_lr": float("nan")}, "head_lr must be positive and finite"),
        ({"width": 0}, "width must be positive"),
        ({"student": "vit_tiny_patch16_224"}, "are needed"),
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeSTSeg(replace(CONFIG, **values), "random")


def test_the_command_line_names_the_textures_in_the_record(
    textures: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["train", "--data", str(drawn), "--categories", "gear", "--side", "64", "--encoder-weights", "embedded"]
    common += ["--out", str(tmp_path / "out"), "--steps", "2", "--batch-size", "2", "--textures", str(textures)]
    assert cli.main([*common, "--method", "destseg"]) == 0
    (record,) = (tmp_path / "out" / "runs").glob("own_*.json")
    text = record.read_text(encoding="utf-8")
    assert f'"textures": "{textures_name(textures)}"' in text
    assert str(tmp_path) not in text
    capsys.readouterr()
    assert cli.main([*common, "--method", "rd4ad"]) == 2
    assert "--textures is of destseg" in capsys.readouterr().err
    common += ["--seed", "1"]
    assert cli.main([*common, "--method", "destseg", "--features", "float32"]) == 2
    assert "needs the images themselves" in capsys.readouterr().err
    assert cli.main([*common, "--method", "destseg", "--batch-size", "1"]) == 2
    assert "at least two images" in capsys.readouterr().err

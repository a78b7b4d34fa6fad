"""Training that ends when the images held out show no progress; a budget in minutes instead of steps."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_run import MODEL, QUIETLY, RUN

from mambaad.baselines import build_method
from mambaad.baselines.destseg import DeSTSeg
from mambaad.baselines.method import FittedMethod
from mambaad.baselines.synthetic_anomalies import textures_name
from mambaad.config import MambaADBankConfig, TrainConfig, for_encoder, preset
from mambaad.data import DatasetError, load_dataset
from mambaad.data.image_set import ImageSet
from mambaad.engine import budget
from mambaad.engine.budget import Timing, steps_within, with_budget
from mambaad.engine.fit import fit
from mambaad.engine.held_out import CHECKS, held_out_loss, last_step
from mambaad.engine.train import train_run

CONFIG = TrainConfig(holdout=0.1, patience=2)


@given(losses=st.lists(st.floats(0.1, 10), max_size=CHECKS), steps=st.integers(20, 2000))
def test_the_end_is_never_moved_once_it_is_known(losses: list[float], steps: int) -> None:
    """Every further check leaves it where it is, or a continued run would end elsewhere."""
    ends = [last_step(steps, CONFIG, losses[:k]) for k in range(len(losses) + 1)]
    assert all(0 < end <= steps for end in ends)
    early = [end for end in ends if end < steps]
    assert len(set(early)) <= 1
    assert last_step(steps, replace(CONFIG, patience=None), losses) == steps


def test_falling_losses_go_on_and_flat_ones_end() -> None:
    falling = [0.9**k for k in range(CHECKS)]
    assert last_step(1000, CONFIG, falling) == 1000
    flat = [1.0, 1.0, 0.995]
    assert last_step(1000, CONFIG, flat) == 188  # 150 steps, and a quarter more


def test_a_run_without_progress_ends_early_and_the_same_way_when_continued(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # nothing is learned, but BatchNorm's statistics move, by how much is a matter of the weights drawn
    monkeypatch.setattr("mambaad.engine.held_out.PROGRESS", 0.5)
    run = replace(RUN, train=replace(RUN.train, steps=20, lr=1e-12, holdout=0.3, patience=2))
    samples = load_dataset("synthetic", drawn)
    whole = train_run(run, samples, execution=QUIETLY)
    assert whole.steps == 4  # checks after steps 1, 2, 3 see no progress; 3 / 0.8 steps
    assert [step for step, _ in whole.execution["held_out_loss"]] == [1, 2, 3, 4]
    assert len(whole.loss) == 4
    train_run(run, samples, out=tmp_path, keep_state=True, execution=QUIETLY)
    again = train_run(run, samples, out=tmp_path, execution=QUIETLY)
    assert (again.steps, again.loss) == (whole.steps, whole.loss)


def test_steps_fill_the_minutes_that_reading_and_predicting_leave(drawn: Path) -> None:
    samples = load_dataset("synthetic", drawn)  # 9 to train, 6 of the test
    timing = Timing(step=0.5, encode=1.0, predict=2.0)
    assert steps_within(60, RUN, samples, timing) == int((54 - 9 - 12) / 0.5)
    assert steps_within(60, RUN, samples, replace(timing, finish=2.0)) == int((54 - 9 - 18 - 12) / 0.5)
    with pytest.raises(ValueError, match="minutes are too few"):
        steps_within(25, RUN, samples, timing)


def test_the_same_budget_gives_the_same_run(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = load_dataset("synthetic", drawn)
    first = with_budget(RUN, samples, 30, tmp_path, QUIETLY)
    assert list(json.loads((tmp_path / budget.FILE).read_text()).values()) == [first.train.steps]
    monkeypatch.setattr(budget, "time_run", lambda *_: pytest.fail("timed again"))
    assert with_budget(RUN, samples, 30, tmp_path, QUIETLY) == first
    for minutes in (0, math.inf):
        with pytest.raises(ValueError, match="minutes must be positive and finite"):
            with_budget(RUN, samples, minutes, tmp_path, QUIETLY)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert with_budget(RUN, samples, 30, tmp_path, QUIETLY) == first, "counted before, and the same for all"
    with pytest.raises(ValueError, match="each would count other steps in 31 minutes: name the steps"):
        with_budget(RUN, samples, 31, tmp_path, QUIETLY)


def test_a_budget_is_for_methods_that_are_trained_in_steps(drawn: Path) -> None:
    samples = load_dataset("synthetic", drawn)
    bank = replace(RUN, model=for_encoder("memory_bank", {"backbone": "resnet18"}, 64))
    with pytest.raises(ValueError, match="memory_bank is filled in one pass over the images: leave out --minutes"):
        budget.time_run(replace(bank, train=replace(RUN.train, batch_size=10)), samples, QUIETLY)
    large = replace(RUN, train=replace(RUN.train, batch_size=10))
    with pytest.raises(DatasetError, match="9 training images are fewer than one batch of 10"):
        budget.time_run(large, samples, QUIETLY)


@pytest.mark.parametrize("textured", [False, True])
def test_a_method_in_phases_is_timed_in_each_of_them_with_its_textures(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, textured: bool
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "baselines")
    from test_baselines import CONFIGS

    config, execution = CONFIGS["destseg"], QUIETLY
    if textured:
        for number in range(3):
            noise = np.random.default_rng(number).integers(0, 255, (80, 80, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / f"{number}.png")
        execution = replace(QUIETLY, textures=tmp_path)
        config = replace(config, textures=textures_name(tmp_path))
    asked: list[float] = []
    loss = DeSTSeg.loss

    def noted(self: DeSTSeg, images: torch.Tensor, progress: float = 0.0) -> torch.Tensor:
        asked.append(progress)
        return loss(self, images, progress)

    monkeypatch.setattr(DeSTSeg, "loss", noted)
    budget.time_run(replace(RUN, model=config), load_dataset("synthetic", drawn), execution)
    assert set(asked) == set(budget.SHARES_TIMED)


def test_the_encoder_is_timed_apart_where_its_features_are_kept(drawn: Path) -> None:
    samples = load_dataset("synthetic", drawn)
    assert budget.time_run(RUN, samples, QUIETLY).encode == 0
    kept = budget.time_run(RUN, samples, replace(QUIETLY, features="float32"))
    assert kept.encode > 0
    assert min(kept.step, kept.predict) > 0


def test_a_method_that_finishes_after_its_last_step_is_timed_and_trained(drawn: Path, tmp_path: Path) -> None:
    """As the preset `laptop`, which cannot predict before its bank is filled."""
    samples = load_dataset("synthetic", drawn)
    encoder: dict[str, Any] = {"backbone": MODEL.backbone, "backbone_kwargs": MODEL.backbone_kwargs}
    config = MambaADBankConfig(**encoder, network=MODEL, network_side=64, entries=64)
    run = replace(RUN, model=config, train=replace(RUN.train, holdout=0.3))
    timing = budget.time_run(run, samples, QUIETLY)
    assert min(timing.step, timing.finish, timing.predict) > 0
    seconds = 6 + 12 * timing.step + 40 * (timing.finish + timing.predict)
    planned = with_budget(run, samples, seconds / 60, tmp_path, QUIETLY)
    assert planned.train.steps is not None
    result = train_run(replace(planned, train=replace(planned.train, steps=2)), samples, execution=QUIETLY)
    assert result.steps == 2


@pytest.mark.parametrize("changes", [{"precision": "bf16-mixed"}, {"patience": 2, "holdout": 0.3}])
def test_a_bank_has_nothing_to_train_in_another_precision_or_with_patience(
    drawn: Path, changes: dict[str, Any]
) -> None:
    bank = replace(RUN, model=for_encoder("memory_bank", {"backbone": "resnet18"}, 64), encoder_weights="random")
    with pytest.raises(ValueError, match="memory_bank is not trained in steps: leave out precision and patience"):
        train_run(
            replace(bank, train=replace(bank.train, **changes)), load_dataset("synthetic", drawn), execution=QUIETLY
        )


def test_patience_without_images_to_watch_is_refused(drawn: Path) -> None:
    run = replace(RUN, train=replace(RUN.train, holdout=0.1, patience=2, batch_size=1))
    samples = load_dataset("synthetic", drawn)
    two = [s for s in samples if s.split == "train"][:2]
    with pytest.raises(ValueError, match="patience watches good images that are not trained on"):
        train_run(run, two, execution=QUIETLY)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"execution": replace(QUIETLY, textures=Path())}, "textures are of destseg, and mambaad paints no anomalies"),
        ({"diffusion_file": Path("sd.ckpt"), "execution": QUIETLY}, "starts from no diffusion weights, and sd.ckpt"),
    ],
)
def test_files_that_a_method_has_no_use_for_are_refused(drawn: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_run(RUN, load_dataset("synthetic", drawn), **given)


@pytest.mark.parametrize("changes", [{"processes": 2}, {"compile": True}])
def test_a_bank_is_filled_by_one_process_without_compiling(drawn: Path, changes: dict[str, Any]) -> None:
    samples = load_dataset("synthetic", drawn)
    bank = replace(RUN, model=for_encoder("memory_bank", {"backbone": "resnet18"}, 64))
    images = ImageSet([s for s in samples if s.split == "train"], 64, RUN.model.mean, RUN.model.std)
    model = build_method(bank.model, "random")
    assert isinstance(model, FittedMethod)
    with pytest.raises(ValueError, match="memory_bank is filled in one pass by one process"):
        fit(model, bank, images, None, replace(QUIETLY, **changes), {})


class Phased(torch.nn.Module):
    """A method that needs the images themselves, and draws random numbers for its loss."""

    config = None

    def predict(self, images: torch.Tensor) -> None: ...

    def optimizers(self, train: TrainConfig) -> list[torch.optim.Optimizer]:
        return []

    def loss(self, images: torch.Tensor, progress: float) -> torch.Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        torch.rand(3)
        return images.mean() + 100 * progress


def test_a_method_without_features_is_asked_for_its_loss_on_the_images(drawn: Path) -> None:
    """The mean over images, in eval mode, with the share of steps done; random numbers go on as before."""
    held = [sample for sample in load_dataset("synthetic", drawn) if sample.split == "train"][:7]
    images = ImageSet(held, RUN.data.side, RUN.model.mean, RUN.model.std)
    model: Any = Phased()
    before = torch.get_rng_state()
    found = held_out_loss(RUN, held, torch.device("cpu"))(model, 0.25)
    assert float(found) == pytest.approx(
        float(torch.stack([images[k][0].mean() for k in range(7)]).mean()) + 25, rel=1e-6
    )
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)


def test_a_map_of_parts_needs_images_held_out_before_anything_is_trained(drawn: Path) -> None:
    laptop = preset("laptop").run
    run = replace(laptop, data=RUN.data, train=replace(RUN.train, holdout=0.0))
    with pytest.raises(ValueError, match="give three good images or more, with a holdout above 0, or take"):
        train_run(run, load_dataset("synthetic", drawn), execution=QUIETLY)

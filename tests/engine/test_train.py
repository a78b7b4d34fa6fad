"""Training: reproducible, and what stops it."""

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from small_run import MODEL, QUIETLY, RUN
from torch import Tensor

import mambaad
from mambaad.baselines import build_method
from mambaad.config import METHOD_CONFIGS, RunConfig
from mambaad.data import load_dataset
from mambaad.engine import train
from mambaad.engine.train import thin, train_run
from mambaad.model import MambaAD
from mambaad.model.encoder_weights import weights_file_name


def run_once(drawn: Path, run: RunConfig = RUN, **options: Any) -> train.TrainResult:
    return train_run(run, load_dataset("synthetic", drawn, ["gear"]), execution=QUIETLY, **options)


def test_same_seed_same_model_other_seed_other_model(drawn: Path) -> None:
    first, second = run_once(drawn), run_once(drawn)
    assert first.loss == second.loss
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))
    other = run_once(drawn, replace(RUN, train=replace(RUN.train, seed=4)))
    assert other.loss != first.loss


def test_training_lowers_the_loss_and_leaves_the_encoder_alone(drawn: Path) -> None:
    longer = replace(RUN, train=replace(RUN.train, steps=25, lr=3e-3))
    result = run_once(drawn, longer)
    assert result.loss[-1][1] < 0.5 * result.loss[0][1]
    torch.manual_seed(longer.train.seed)
    fresh = MambaAD(MODEL, weights="random")
    trained = result.model.state_dict()
    for key, value in fresh.state_dict().items():
        assert torch.equal(value, trained[key]) == key.startswith("encoder.") or "num_batches" in key, key


def test_a_loss_that_is_not_finite_stops_the_run(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mambaad.model.mambaad.reconstruction_loss", lambda e, d: d[0].sum() * math.nan)
    with pytest.raises(FloatingPointError, match="loss is nan at step 1: lower the learning rate"):
        run_once(drawn)


def test_a_gradient_that_is_not_finite_stops_the_run(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its loss is finite; the step would have written NaN into the weights."""

    def loss(encoder: list[Tensor], decoder: list[Tensor]) -> Tensor:
        decoder[0].register_hook(lambda gradient: gradient * math.inf)
        return mambaad.model.reconstruction_loss(encoder, decoder)

    monkeypatch.setattr("mambaad.model.mambaad.reconstruction_loss", loss)
    with pytest.raises(FloatingPointError, match=r"gradient.s norm is (nan|inf) at step 1: lower the learning rate"):
        run_once(drawn)


def test_an_encoder_file_other_than_the_runs_is_refused(drawn: Path, tmp_path: Path) -> None:
    samples = load_dataset("synthetic", drawn)
    files = {}
    for name in ("one", "two"):
        files[name] = tmp_path / name / "encoder.safetensors"
        files[name].parent.mkdir()
        weights = build_method(RUN.model, "random").encoder.net.state_dict()
        save_file({key: value.contiguous() for key, value in weights.items()}, files[name])
    run = replace(RUN, encoder_weights=weights_file_name(files["one"]))
    assert train_run(run, samples, encoder_file=files["one"], execution=QUIETLY).steps == 6
    for wrong in (run, RUN):
        with pytest.raises(ValueError, match=r"the run's encoder weights are .*, and the file given is encoder"):
            train_run(wrong, samples, encoder_file=files["two"], execution=QUIETLY)


def test_a_state_of_other_images_is_not_continued(drawn: Path, tmp_path: Path) -> None:
    """A run of one's own images need not name them, so its hash does not tell them apart."""
    samples = [sample for sample in load_dataset("synthetic", drawn) if sample.split == "train"]
    train_run(RUN, samples, out=tmp_path, keep_state=True, execution=QUIETLY)
    moved = []
    for sample in samples:
        image = tmp_path / "moved" / sample.image.name
        image.parent.mkdir(exist_ok=True)
        moved.append(replace(sample, image=Path(shutil.copy(sample.image, image))))
    assert train_run(RUN, moved, out=tmp_path, keep_state=True, execution=QUIETLY).steps == 6
    with pytest.raises(ValueError, match="a training on other images"):
        train_run(RUN, samples[:-1], out=tmp_path, execution=QUIETLY)


@pytest.mark.parametrize("method", ["destseg", "diad"])
def test_patience_is_refused_where_losses_of_phases_would_be_compared(drawn: Path, method: str) -> None:
    run = RunConfig(model=METHOD_CONFIGS[method](), train=replace(RUN.train, holdout=0.3, patience=2))
    with pytest.raises(ValueError, match=f"{method} trains in phases"):
        train_run(replace(run, data=RUN.data), load_dataset("synthetic", drawn), execution=QUIETLY)


def test_loss_curve_is_thinned_to_means() -> None:
    assert thin([]) == []
    assert thin([3.0, 1.0], points=2) == [(1, 3.0), (2, 1.0)]
    assert thin([4.0, 2.0, 1.0], points=2) == [(2, 3.0), (3, 1.0)]

"""Training: reproducible, and what stops it."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import MODEL, QUIETLY, RUN
from torch import Tensor

import mambaad
from mambaad.config import RunConfig
from mambaad.data import load_dataset
from mambaad.engine import train
from mambaad.engine.train import thin, train_run
from mambaad.model import MambaAD


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


def test_loss_curve_is_thinned_to_means() -> None:
    assert thin([]) == []
    assert thin([3.0, 1.0], points=2) == [(1, 3.0), (2, 1.0)]
    assert thin([4.0, 2.0, 1.0], points=2) == [(2, 3.0), (3, 1.0)]

"""Schedule, parameter groups and batches: the published training protocol."""

import pytest
from small_run import MODEL

from mambaad.config import TrainConfig
from mambaad.data import DatasetError
from mambaad.engine.optim import batches, lr_factor, total_steps
from mambaad.model import MambaAD
from mambaad.model.mambaad import parameter_groups


def test_schedule_warms_up_and_drops_once() -> None:
    config = TrainConfig(warmup_steps=3, decay_at=0.8, decay=0.1)
    factors = [lr_factor(step, 10, config) for step in range(10)]
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 0.1, 0.1])


def test_weight_decay_exempts_what_the_published_optimiser_exempts() -> None:
    model = MambaAD(MODEL, weights="random")
    decayed, exempt = ({id(p) for p in group["params"]} for group in parameter_groups(model, 0.1))
    assert [g["weight_decay"] for g in parameter_groups(model, 0.1)] == [0.1, 0.0]
    for name, parameter in model.named_parameters():
        if name.startswith("encoder."):
            assert id(parameter) not in decayed | exempt
        elif name.endswith((".A_log", ".dt_bias", ".x_proj", ".dt_proj")) or name.endswith("in_proj.weight"):
            assert id(parameter) in decayed, name
        elif name.endswith((".D", ".bias", "norm.weight")):
            assert id(parameter) in exempt, name


def test_steps_follow_from_epochs_with_incomplete_batches_dropped() -> None:
    assert total_steps(TrainConfig(epochs=3, batch_size=4), 11) == 6
    assert total_steps(TrainConfig(epochs=3, batch_size=4, steps=7), 11) == 7
    with pytest.raises(DatasetError, match="fewer than one batch of 16"):
        total_steps(TrainConfig(), 15)


def test_every_epoch_sees_every_image_at_most_once() -> None:
    seen = list(batches(11, TrainConfig(batch_size=4), 5))
    assert [len(batch) for batch in seen] == [4] * 5
    assert len({*seen[0], *seen[1]}) == 8
    assert seen[0] + seen[1] != seen[2] + seen[3]

"""The maps of the training: what is kept is what the network computed."""

import json
from pathlib import Path

import pytest
import torch

from mambaad.study import training_maps as tm
from mambaad.study.book_network import book_network, book_run, example_image


def test_what_is_kept_gives_the_networks_map() -> None:
    example = example_image()
    model, side = book_network(), book_run().data.side
    kept = tm.from_json(json.loads(json.dumps(tm.to_json(tm.look(model, example, 7)))), side)
    expected = model.predict(model.normalize(example.image[None]))
    assert kept.step == 7
    assert kept.scores["image"] == pytest.approx(float(expected.score), rel=1e-4)
    torch.testing.assert_close(kept.anomaly_map("image", side), expected.anomaly_map[0], rtol=2e-3, atol=1e-4)
    assert kept.scores["image"] > kept.scores["twin"]


def test_too_few_values_are_refused() -> None:
    point = tm.to_json(tm.look(book_network(), example_image(), 0))
    with pytest.raises(ValueError, match="the maps of an image of 256 pixels, got 1344"):
        tm.from_json(point, 256)


def test_a_record_of_other_settings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "maps.json"
    path.write_text(json.dumps({"run": "0123456789ab", "points": []}), encoding="utf-8")
    with pytest.raises(ValueError, match="0123456789ab"):
        tm.training_maps(path)

"""The gallery and the scrubber show what the network computed, failures first, and are complete without scripts."""

import torch

from mambaad.study import training_maps as tm
from mambaad.study.book_network import book_network, book_run, example_image
from mambaad.study.map_gallery import (
    MAPS,
    Case,
    cases_of,
    failures_first,
    gallery,
    thresholds_of,
    training_strip,
)


def _case(name: str, score: float, defective: bool) -> Case:
    maps = tuple(torch.full((2, 2), value) for value in (0.9, 0.5, 0.4, score))
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[2:4, 2:4] = defective
    return Case(name, torch.rand(3, 8, 8), mask, maps)


CASES = [
    _case("gear, spot", 0.9, True),
    _case("gear, bent", 0.95, True),
    _case("fabric, good", 0.55, False),
    _case("fabric, spot", 0.1, True),
    _case("fabric, good", 0.3, False),
]


def test_the_worst_error_is_first_and_one_clear_find_of_each_part_last() -> None:
    shown = failures_first(CASES, 0.5)
    assert [(case.name, case.verdict(0.5)) for case in shown] == [
        ("fabric, spot", "missed"),
        ("fabric, good", "false alarm"),
        ("gear, bent", "found"),
    ]
    assert CASES[4].verdict(0.5) == "rightly passed"
    assert [case.name for case in failures_first(CASES, 0.5, failures=1)] == ["fabric, spot", "gear, bent"]


def test_maps_are_those_of_the_network() -> None:
    example, model = example_image(), book_network()
    case = cases_of(model, ["gear, missing"], example.image[None], example.mask[None])[0]
    prediction = model.predict(model.normalize(example.image[None]))
    torch.testing.assert_close(case.maps[-1], prediction.anomaly_map[0], rtol=1e-4, atol=1e-5)
    assert [tuple(one.shape) for one in case.maps] == [(32, 32), (16, 16), (8, 8), (128, 128)]
    assert len(case.peaks) == len(MAPS)


def test_a_threshold_leaves_the_allowed_share_of_good_images_above() -> None:
    good = [_case("gear, good", score / 100, False) for score in range(100)]
    threshold = thresholds_of(good, 0.05)[-1]
    assert sum(case.peaks[-1] > threshold for case in good) == 5


def test_every_picture_and_number_is_there_without_scripts() -> None:
    shown = str(gallery(CASES[:2], [1.0, 0.8, 0.6, 0.5], "Caption.").data)
    assert shown.count("<img ") == 2 * 5
    assert "gear, spot: map, stride 8, largest value 0.50" in shown
    assert "<p>gear, bent: found, score 0.950.</p>" in shown
    example, side = example_image(), book_run().data.side
    seen = [tm.from_json(tm.to_json(tm.look(book_network(), example, step)), side) for step in (0, 5)]
    strip = str(training_strip(seen, example.image, example.good_twin, 0.1, "Caption.").data)
    assert strip.count("<img ") == 4
    assert "Step 5: 0.339; good twin 0.082." in strip


def test_the_committed_maps_end_where_the_shipped_weights_are() -> None:
    record, seen = tm.training_maps()
    assert [one.step for one in seen] == list(tm.STEPS)
    assert record["environment"]["code"]["dirty"] is False
    example, side = example_image(), book_run().data.side
    shipped = tm.look(book_network(), example, 800).anomaly_map("image", side)
    last = seen[-1].anomaly_map("image", side)
    assert float((last - shipped).abs().max() / shipped.max()) < 0.01

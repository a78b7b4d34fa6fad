"""The photographs of the evidence page: chosen by a rule, shown where their licences allow it, with what is due."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_model import small

from mambaad.data import Sample, load_dataset
from mambaad.data.synthetic.generate import write_synthetic
from mambaad.model import save_checkpoint
from mambaad.study import compare
from mambaad.study.evidence import photographs, protocol


def test_images_are_chosen_by_their_scores_alone() -> None:
    defects = ["good", "dent", "good", "dent", "good", "dent"]
    test = [Sample(Path(f"{k}.png"), "bottle", "test", defect) for k, defect in enumerate(defects)]
    scores = np.array([0.9, 0.1, 0.2, 0.8, 0.3, 0.5], dtype=np.float32)
    assert photographs.chosen(test, scores) == {
        "missed: the defect with the lowest score": 1,
        "false alarm: the good part with the highest score": 0,
        "typical: the defect with the median score": 5,
        "found: the defect with the highest score": 3,
        "typical good part": 4,
    }


def test_every_category_that_may_be_shown_has_its_figure_and_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_synthetic(tmp_path / "data", side=64, train=1, test=4, categories=("gear",))
    drawn = load_dataset("synthetic", root)
    save_checkpoint(tmp_path / "c.pth", small(scan="sweep", directions=2))
    asked: list[Any] = []

    def load(name: str, folder: Path, categories: tuple[str, ...]) -> list[Sample]:
        asked.append((name, folder, categories))
        return [dataclasses.replace(sample, category=category) for category in categories for sample in drawn]

    monkeypatch.setattr(photographs, "load_dataset", load)
    monkeypatch.setattr(protocol, "SIDE", 64)
    found = photographs.figures(tmp_path, tmp_path / "c.pth")
    assert asked == [(protocol.DATA.dataset, tmp_path, tuple(photographs.SOURCES))]
    assert list(found) == list(photographs.SOURCES)
    assert "glassfiber" not in found  # it states no licence
    assert [compare.HINT in page for page in found.values()] == [True, False, False, False]
    for category, page in found.items():
        assert photographs.SOURCES[category] in page
        assert page.count('<div class="case"') == 5
        names = [part.partition("<")[0] for part in page.split("<strong>")[1:]]
        assert names[0].startswith("missed")
        assert names[-1] == "typical good part"
        # each name stands at the image and at its map
        assert page.count("its defect outlined") == 2 * 3
        assert page.count("a good part") == 2 * 2
        scores = [float(part.split()[0].rstrip(".")) for part in page.split("</strong>, score ")[1:]]
        missed, _, typical, best, _ = scores
        assert missed <= typical <= best


def test_a_comparison_needs_an_image() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        compare.compare([], "nothing")


def test_the_slider_begins_in_the_middle_of_the_defect() -> None:
    mask = torch.zeros(8, 8).bool().numpy()
    assert compare._middle(mask) == 50
    mask[:, 6] = True
    assert compare._middle(mask) == 75

"""The false-positive rate and its interval, against the definition of Clopper and Pearson."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from small_run import MODEL, QUIETLY, RUN

from mambaad.data import DatasetError, Sample, load_dataset
from mambaad.data.contents import content_hashes
from mambaad.data.holdout import hold_out
from mambaad.inference.held_out import calibrate_run, false_positives, notes
from mambaad.inference.threshold import Threshold, stored_thresholds
from mambaad.model import MambaAD, save_checkpoint
from mambaad.model.checkpoint import TRAINING_FILES, read_checkpoint


@given(images=st.integers(1, 60), data=st.data())
def test_the_interval_holds_each_rate_that_the_count_does_not_contradict(images: int, data: st.DataObject) -> None:
    """At its ends a count as extreme as this one has a probability of 2.5 %: no formula of the interval is used."""
    above = data.draw(st.integers(0, images))
    found = false_positives([1.0] * above + [0.0] * (images - above), 0.5)
    assert (found.above, found.images) == (above, images)
    assert found.low <= above / images <= found.high
    assert found.low == 0 if above == 0 else binom.sf(above - 1, images, found.low) == pytest.approx(0.025)
    assert found.high == 1 if above == images else binom.cdf(above, images, found.high) == pytest.approx(0.025)


def test_a_score_at_the_threshold_is_not_above_it() -> None:
    assert false_positives([0.5, 0.6], 0.5).above == 1
    with pytest.raises(ValueError, match="got none"):
        false_positives([], 0.5)


def test_rounding_makes_no_false_positive() -> None:
    """By the rule of the verdicts: an image that is called OK is not counted as a false alarm."""
    scores = [0.5, 0.5 * (1 + 1e-7), 0.5 * (1 - 1e-7), 0.5001]
    found = false_positives(scores, 0.5)
    assert found.above == sum(Threshold.given(0.5, 64).exceeded_by(score) for score in scores) == 1


def test_a_run_without_images_held_out_has_no_threshold(drawn: Path, tmp_path: Path) -> None:
    samples = load_dataset("synthetic", drawn)
    assert calibrate_run(tmp_path / "not read.pth", RUN, samples) == {}
    assert notes({}) == []


def test_a_category_without_good_test_images_has_a_threshold_and_no_rate(drawn: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "c.pth", MambaAD(MODEL, weights="random"))
    run = replace(RUN, train=replace(RUN.train, holdout=0.3))
    samples = [sample for sample in load_dataset("synthetic", drawn) if sample.is_defect or sample.split == "train"]
    found = calibrate_run(tmp_path / "c.pth", run, samples, rate=0.5, execution=QUIETLY)
    (own,) = found["categories"].values()
    assert own["false_positives"] is None
    assert stored_thresholds(read_checkpoint(tmp_path / "c.pth"))["gear"].value == own["threshold"]["value"]
    assert notes(found) == [f"gear: {Threshold(**own['threshold']).note}"]


def test_images_that_were_trained_on_are_not_taken_for_held_out_ones(drawn: Path, tmp_path: Path) -> None:
    """As after the folder of the images was renamed, which is the name of their category."""
    run = replace(RUN, train=replace(RUN.train, holdout=0.3))
    samples = load_dataset("synthetic", drawn)
    held = [sample.image for sample in hold_out(samples, 0.3, RUN.train.seed)[1]]
    save_checkpoint(tmp_path / "c.pth", MambaAD(MODEL, weights="random"), {TRAINING_FILES: content_hashes(held)})
    with pytest.raises(DatasetError, match="were trained on"):
        calibrate_run(tmp_path / "c.pth", run, samples, execution=QUIETLY)


def test_copies_of_training_images_set_no_threshold(drawn: Path, tmp_path: Path) -> None:
    run = replace(RUN, train=replace(RUN.train, holdout=0.3))
    samples = load_dataset("synthetic", drawn)
    held = [sample.image for sample in hold_out(samples, 0.3, RUN.train.seed)[1]]
    save_checkpoint(tmp_path / "c.pth", MambaAD(MODEL, weights="random"), {TRAINING_FILES: content_hashes(held[:1])})
    found = calibrate_run(tmp_path / "c.pth", run, samples, execution=QUIETLY)
    assert found["categories"]["gear"]["threshold"]["images"] == len(held) - 1


def test_an_image_held_out_that_cannot_be_read_is_named(drawn: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c.pth", MambaAD(MODEL, weights="random"))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    run = replace(RUN, train=replace(RUN.train, holdout=0.5))
    samples = [Sample(broken, "gear", "train")] * 4
    with pytest.raises(ValueError, match=r"broken\.png"):
        calibrate_run(tmp_path / "c.pth", run, samples, execution=QUIETLY)

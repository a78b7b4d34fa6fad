"""Intervals and verdicts: coverage on simulated runs, and each rule's limits."""

import math

import numpy as np
import pytest

from mambaad.study.evidence import coverage
from mambaad.study.evidence.statistics import Estimate, paired_difference, row_mean, smaller_than, verdict
from mambaad.study.published_numbers import repository_root


def simulated(
    random: np.random.Generator,
    effect: float,
    seeds: int = 5,
    replicates: int = 100,
    noise: float = 0.5,
    images: float = 0.4,
) -> list[dict[int, list[float]]]:
    """A row and its reference: seed noise in each, and an image effect that the seeds share."""
    shift = np.append(0, random.normal(scale=images, size=replicates)) + random.normal(scale=images)
    return [
        {s: list(80 + (effect + shift if row else 0 * shift) + random.normal(scale=noise)) for s in range(seeds)}
        for row in (True, False)
    ]


def test_intervals_cover_the_true_difference_about_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        found = paired_difference(*simulated(random, effect=0.7))
        hits += found.low <= 0.7 <= found.high
    assert 0.87 <= hits / 300 <= 0.99


def test_a_large_difference_is_seen_and_none_is_not() -> None:
    random = np.random.default_rng(1)
    clear = paired_difference(*simulated(random, effect=5.0))
    assert verdict(clear, +1) == "supported"
    assert verdict(clear, -1) == "contradicted"
    assert clear.improvement == 1.0
    null = [verdict(paired_difference(*simulated(random, effect=0.0)), +1) for _ in range(100)]
    assert null.count("no difference seen") >= 80


def test_too_few_seeds_are_no_verdict() -> None:
    row, reference = simulated(np.random.default_rng(2), effect=9.0, seeds=2)
    assert verdict(paired_difference(row, reference), +1) == "not tested here"
    assert verdict(None, +1) == "not tested here"
    alone = paired_difference({0: row[0]}, {0: reference[0]})
    assert math.isnan(alone.low)
    assert alone.n == 1


def test_three_seeds_are_enough_for_a_verdict() -> None:
    row, reference = simulated(np.random.default_rng(2), effect=9.0, seeds=3)
    assert verdict(paired_difference(row, reference), +1) == "supported"


def test_pairs_are_the_seeds_in_common() -> None:
    row, reference = {0: [5.0, 5.0], 1: [6.0, 6.0], 7: [90.0, 90.0]}, {0: [4.0, 4.0], 1: [4.0, 4.0]}
    found = paired_difference(row, reference)
    assert (found.n, found.value) == (2, 1.5)
    with pytest.raises(ValueError, match="share no seed"):
        paired_difference({0: [1.0]}, {1: [1.0]})
    with pytest.raises(ValueError, match="one protocol"):
        row_mean({0: [1.0], 1: [1.0, 2.0]})


def test_more_seeds_detect_smaller_differences() -> None:
    random = np.random.default_rng(3)
    few, many = (paired_difference(*simulated(random, 0.0, seeds=n)) for n in (3, 12))
    assert many.detectable < few.detectable


def test_what_can_be_detected_depends_on_the_images_too() -> None:
    random = np.random.default_rng(4)
    alike, unlike = (paired_difference(*simulated(random, 0.0, seeds=12, images=noise)) for noise in (0.0, 2.0))
    assert unlike.detectable > 2 * alike.detectable


def test_what_can_be_detected_is_found_four_times_out_of_five() -> None:
    random = np.random.default_rng(5)
    noise, images, seeds = 0.5, 0.4, 5
    true = 2.80 * math.sqrt(2 * noise**2 / seeds + images**2)  # standard errors, by the spreads that are simulated
    found = [paired_difference(*simulated(random, true, seeds, 200, noise, images)) for _ in range(200)]
    assert 0.72 <= np.mean([estimate.low > 0 for estimate in found]) <= 0.88
    assert np.median([estimate.detectable for estimate in found]) == pytest.approx(true, rel=0.1)


def test_by_chance_some_intervals_exclude_zero() -> None:
    lines = [{"seeds": 5, "images": k, "coverage": share} for k, share in ((0, 0.875), (1, 0.95))]
    lines.append({"seeds": 3, "images": 0, "coverage": 0.5})
    assert coverage.by_chance(lines, 40) == pytest.approx((2.0, 5.0))
    assert coverage.by_chance(lines, 40, 3) == pytest.approx((20.0, 20.0))


def test_the_simulations_on_record_are_of_these_intervals() -> None:
    """The line with the fewest draws of chance in it; without the widening it would be 0.76."""
    stored = coverage.stored(repository_root() / "results" / "real_v1")
    (line,) = (line for line in stored if line["seeds"] == 3 and line["images"] == 0)
    assert line["coverage"] == coverage.coverage(3, 0.0)


def test_simulated_coverage_is_said_by_number_of_seeds() -> None:
    few, many = (coverage.coverage(seeds, 0.0, draws=200, replicates=10) for seeds in (3, 40))
    assert 0.7 <= few < many <= 0.99  # the spread of three seeds is badly known
    lines = [{"seeds": 3, "images": 0.0, "coverage": few}, {"seeds": 3, "images": 1.0, "coverage": many}]
    assert f"{100 * few:.0f} to {100 * many:.0f} % with 3 seeds" in coverage.sentence(lines)


def test_smaller_than_is_the_far_end() -> None:
    assert smaller_than(Estimate(0.1, -0.6, 0.8, 5, 0.5, 0.5)) == 0.8

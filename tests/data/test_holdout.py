"""Images held out of training: disjoint, of every category, the same for the same seed wherever they lie."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mambaad.data import Sample
from mambaad.data.holdout import FEWEST, hold_out


def parts(root: str, **numbers: int) -> list[Sample]:
    good = [
        Sample(Path(root, category, "train", "good", f"{k:03}.png"), category, "train")
        for category, number in numbers.items()
        for k in range(number)
    ]
    return [*good, Sample(Path(root, "a", "test", "good", "000.png"), "a", "test")]


@given(a=st.integers(0, 200), b=st.integers(0, 20), share=st.floats(0.01, 0.5), seed=st.integers(0, 5))
def test_every_image_is_on_one_side_and_each_category_gives_its_share(a: int, b: int, share: float, seed: int) -> None:
    samples = parts("x", a=a, b=b)
    kept, held = hold_out(samples, share, seed)
    assert sorted([*kept, *held], key=samples.index) == samples
    assert not set(kept) & set(held)
    assert all(sample.split == "train" for sample in held)
    for category, n in (("a", a), ("b", b)):
        number = sum(sample.category == category for sample in held)
        assert number <= n // 3
        assert number >= min(FEWEST, n // 3)
        assert number == n // 3 or number >= share * n - 1e-6


def test_the_choice_follows_from_seed_and_names_alone() -> None:
    _, held = hold_out(parts("x", a=50), 0.1, seed=1)
    _, moved = hold_out([replace(s, image=Path("elsewhere") / s.image) for s in parts("y", a=50)[::-1]], 0.1, seed=1)
    assert [s.image.name for s in held] == sorted(s.image.name for s in moved)
    assert held != hold_out(parts("x", a=50), 0.1, seed=2)[1]


def test_each_category_has_a_choice_of_its_own() -> None:
    """Categories whose files have the same names must not lose the same images."""
    _, held = hold_out(parts("x", a=50, b=50), 0.1)
    names = {category: [s.image.name for s in held if s.category == category] for category in ("a", "b")}
    assert len(names["a"]) == len(names["b"]) == FEWEST
    assert names["a"] != names["b"]


def test_where_a_folder_without_a_layout_lies_does_not_matter() -> None:
    flat = [[Sample(Path(root, f"{k:03}.png"), "images", "train") for k in range(40)] for root in ("a", "b/c/d")]
    one, other = ([sample.image.name for sample in hold_out(samples, 0.1, seed=3)[1]] for samples in flat)
    assert one == other


def test_names_that_are_no_text_can_be_held_out() -> None:
    samples = [Sample(Path("x", os.fsdecode(b"\xff" + str(k).encode())), "images", "train") for k in range(20)]
    assert len(hold_out(samples, 0.1)[1]) == FEWEST


def test_nothing_is_held_out_unless_asked() -> None:
    samples = parts("x", a=30)
    assert hold_out(samples, 0.0) == (samples, [])
    with pytest.raises(ValueError, match="share held out must be"):
        hold_out(samples, 0.6)

"""The false-positive rate and its interval, against the definition of Clopper and Pearson."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from mambaad.inference.held_out import false_positives


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

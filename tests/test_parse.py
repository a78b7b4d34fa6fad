"""Settings from files: what is not of its field's type is refused in one sentence."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mambaad.config import METHOD_CONFIGS, MambaADBankConfig, ModelConfig, TrainConfig, UniADConfig, to_dict
from mambaad.config.parse import parse, shortened

KINDS = (ModelConfig, TrainConfig, *METHOD_CONFIGS.values())


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_is_read(kind: type[Any]) -> None:
    assert parse(kind, to_dict(kind())) == kind()
    hybrid = ModelConfig(scan=(("sweep", 4), ("hilbert", 4)))
    assert parse(ModelConfig, json.loads(json.dumps(to_dict(hybrid)))) == hybrid


NESTED: list[Any] = []
for _ in range(100_000):
    NESTED = [NESTED]


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (ModelConfig, {"depths": 3}, "depths: Input should be a valid array, got 3"),
        (ModelConfig, {"state_size": "16"}, "state_size: .* got '16'"),
        (ModelConfig, {"state_size": True}, "state_size: .* got True"),
        (ModelConfig, {"state_size": 0}, "state_size must be positive"),
        (ModelConfig, {"dephts": [1, 1, 1, 1]}, "unknown key 'dephts'; known are .*depths"),
        (
            MambaADBankConfig,
            {"network": {"dephts": [1, 1, 1, 1]}},
            r"unknown key network\.'dephts'; known are .*depths",
        ),
        (ModelConfig, {"drop_path": math.nan}, "finite"),
        (ModelConfig, {"backbone_kwargs": NESTED}, "nested without end"),
        (ModelConfig, {"mean": [0.5] * 1000}, "mean"),
        (ModelConfig, [1], r"got \[1\]"),
        (ModelConfig, None, "got None"),
        (UniADConfig, {"heads": 0}, "heads"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    kind: type[Any], values: dict[str, Any] | list[int] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse(kind, values)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(kind=st.sampled_from(KINDS), data=st.data())
def test_anything_else_is_a_value_error(kind: type[Any], data: st.DataObject) -> None:
    fields = to_dict(kind())
    name = data.draw(st.sampled_from(sorted(fields)))
    message = ""
    try:
        parse(kind, fields | {name: data.draw(ANYTHING)})
    except ValueError as error:
        message = str(error)
    assert "\n" not in message


def test_values_are_shortened() -> None:
    assert shortened(list(range(1000))).endswith("...")
    assert shortened(NESTED) == "a list nested too deeply"

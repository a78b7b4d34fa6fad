"""Settings from files: every value of the type that its field has, or one sentence that says which is not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar, cast, get_type_hints

T = TypeVar("T")


def parse(kind: type[T], values: Any, *, others: bool = False) -> T:
    """A dataclass from plain values that were read from a file.

    Nothing is converted but lists to tuples and whole numbers to floats, as JSON has no other.

    Args:
        others: pass over fields that the dataclass does not have.

    Raises ValueError for unknown or missing fields, values of another type, or such as the dataclass refuses.

    Example:
        >>> from mambaad.config import DataConfig
        >>> parse(DataConfig, {"side": "64"})
        Traceback (most recent call last):
        ...
        ValueError: side: Input should be a valid integer, got '64'
    """
    from pydantic import ValidationError  # takes longer to import than all settings together

    if not isinstance(values, Mapping):
        raise ValueError(f"expected fields and their values, got {shortened(values)}")
    fields = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    if not others:
        _refuse_unknown(kind, values)
    try:
        text = json.dumps({name: value for name, value in values.items() if name in fields}, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"expected plain values, finite and not nested without end ({error})") from error
    try:
        return cast(T, _adapter(cast(Any, kind)).validate_json(text, strict=True))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        if first["type"] == "value_error":  # the dataclass's own words
            raise ValueError(str(first["ctx"]["error"])) from error
        raise ValueError(f"{place}: {first['msg']}, got {shortened(first['input'])}") from error


def _refuse_unknown(kind: Any, values: Mapping[str, Any], where: str = "") -> None:
    """Raise ValueError for a key that is no field, here or in a field that has settings of its own."""
    fields = [field.name for field in dataclasses.fields(kind)]
    if unknown := [name for name in values if name not in fields]:
        raise ValueError(f"unknown key {where}{shortened(unknown[0])}; known are {', '.join(fields)}")
    kinds = get_type_hints(kind)
    for name, value in values.items():
        if dataclasses.is_dataclass(kinds[name]) and isinstance(value, Mapping):
            _refuse_unknown(kinds[name], value, f"{where}{name}.")


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def shortened(value: object, length: int = 80) -> str:
    """A value as an error message shows it: of a file anything may come, of any length."""
    try:
        text = repr(value)
    except RecursionError:
        text = f"a {type(value).__name__} nested too deeply"
    return text if len(text) <= length else f"{text[: length - 3]}..."

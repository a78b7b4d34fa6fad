"""A word to torch.compile, without importing the compiler."""

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def constant_when_compiled(function: F) -> F:
    """Mark a function as one whose result torch.compile may take for a constant.

    What `torch.compiler.assume_constant_result` does; but that imports the compiler, which takes longer than torch.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function

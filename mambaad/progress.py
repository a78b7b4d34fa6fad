"""How far long work is: a bar on a terminal, one line for each tenth in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn, Protocol, TypeVar

from tqdm import tqdm

T = TypeVar("T")


class Bar(Protocol):
    """What long work tells how far it is."""

    def update(self, n: int = 1) -> object:
        """So many more are done."""
        ...

    def note(self, text: str) -> object:
        """What else to show from the next update on, such as the loss."""
        ...


@contextmanager
def progress(total: int, description: str, show: bool = True, *, unit: str = "item", start: int = 0) -> Iterator[Bar]:
    """Show work of `total` items on stderr, of which `start` were done before.

    On a terminal a bar; elsewhere, where a bar's carriage returns would fill a log, a line whenever another tenth is
    done.
    """
    if not show or total <= 0 or sys.stderr.isatty():
        with tqdm(total=total, initial=start, desc=description, unit=unit, disable=not show or total <= 0) as bar:
            yield _Terminal(bar)
    else:
        yield _Lines(total, description, unit, start)


def tracked(items: Iterable[T], total: int, description: str, show: bool = True, *, unit: str = "item") -> Iterator[T]:
    """The items, while `progress` shows how many of `total` are done."""
    with progress(total, description, show, unit=unit) as bar:
        for item in items:
            yield item
            bar.update()


class _Terminal:
    def __init__(self, bar: tqdm[NoReturn]) -> None:
        self.bar = bar

    def update(self, n: int = 1) -> None:
        self.bar.update(n)

    def note(self, text: str) -> None:
        self.bar.set_postfix_str(text, refresh=False)


class _Lines:
    def __init__(self, total: int, description: str, unit: str, start: int) -> None:
        self.total, self.description, self.unit, self.done = total, description, unit, start
        self.noted = ""
        self.began = time.perf_counter()

    def update(self, n: int = 1) -> None:
        before, self.done = 10 * self.done // self.total, self.done + n
        if 10 * self.done // self.total > before:
            seconds = round(time.perf_counter() - self.began)
            noted = f", {self.noted}" if self.noted else ""
            line = f"{self.description}: {self.done} of {self.total} {self.unit}s, {seconds} s{noted}"
            print(line, file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        self.noted = text

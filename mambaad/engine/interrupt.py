"""Ctrl-C and SIGTERM in the middle of a step: the step is finished first.

A step changes weights, statistics of BatchNorm, the optimiser and random numbers one after the other.  Stopped between
two of them, a run could not be continued to the same weights.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM, as cluster schedulers do before they take a machine away."""


class StopRequest:
    """Whether somebody asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def error(self) -> KeyboardInterrupt:
        """What to raise once everything is saved."""
        return Terminated() if self.signal == signal.SIGTERM else KeyboardInterrupt()


@contextmanager
def stop_between_steps() -> Iterator[StopRequest]:
    """Note the first SIGINT or SIGTERM instead of raising it; a second one ends the process as usual.

    Python lets the main thread alone handle signals; in any other nothing changes.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number: int, _: FrameType | None) -> None:
        if request.signal is not None:
            request.signal = number
            raise request.error()
        request.signal = number

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Make SIGTERM end a program as Ctrl-C does, by an exception, so that it can tidy up: `Terminated`."""

    def terminate(number: int, _: FrameType | None) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

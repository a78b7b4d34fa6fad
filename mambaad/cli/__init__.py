"""The command line; one module per group of commands: data, train, predict, report, weights, export, machine.

Every mistake a user can make ends in one sentence and exit code 2; an interrupted run in exit code 130, one ended by
SIGTERM in 143; one whose output nobody reads any more in 141, without a word.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence

from mambaad.cli import data, evidence, export, machine, predict, report, train, weights
from mambaad.cli.options import Run, device_options
from mambaad.engine.interrupt import Terminated, sigterm_raises


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults there are; options without one say in their text what holds then."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, []) else super()._get_help_string(action)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):  # a file's name may be none in the terminal's encoding
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    arguments = parser().parse_args(argv)
    return exit_code(lambda: arguments.run(arguments), arguments.command)


def exit_code(work: Callable[[], int], command: str) -> int:
    """Carry out a command; what its failure is called in one sentence on stderr, and the exit code."""
    try:
        with sigterm_raises():
            code = work()
            sys.stdout.flush()
            return code
    except KeyboardInterrupt as stop:
        terminated = isinstance(stop, Terminated)
        print(
            f"{'terminated' if terminated else 'interrupted'}; the same command resumes from the last saved state, or "
            "starts again where there is none",
            file=sys.stderr,
        )
        return 143 if terminated else 130
    except BrokenPipeError:  # whoever read the output has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at its end
        return 141
    except OSError as error:
        where = "" if error.filename is None else f"{_one_line(error.filename)}: "
        print(f"mambaad {command}: {where}{error.strerror or _one_line(error)}", file=sys.stderr)
        return 2
    except (ValueError, ArithmeticError) as error:
        print(f"mambaad {command}: {_one_line(error)}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        print(f"mambaad {command}: out of memory: choose a smaller --batch-size or --side", file=sys.stderr)
        return 2


def _one_line(text: object) -> str:
    """A message that fits on a line and a terminal: names of files may hold anything."""
    return str(text).encode("utf-8", "backslashreplace").decode()


def _is_out_of_memory(error: BaseException) -> bool:
    # torch raises OutOfMemoryError for a card, plain RuntimeErrors where its allocator or oneDNN's convolutions fail
    text = f"{type(error).__name__} {error}"
    signs = ("OutOfMemory", "can't allocate memory", "could not create a primitive", "bad_alloc")
    return isinstance(error, MemoryError) or any(sign in text for sign in signs)


def parser() -> argparse.ArgumentParser:
    """All commands and options; help texts show the defaults."""
    top = argparse.ArgumentParser(prog="mambaad", description="MambaAD: anomaly detection with state space models.")
    commands = top.add_subparsers(dest="command", required=True)

    def command(name: str, run: Run, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, formatter_class=_Help)
        sub.set_defaults(run=run)
        return sub

    data.add(command)
    train.add(command)
    predict.add(command)
    report.add(command)
    weights.add(command)
    export.add(command)
    evidence.add(command)

    from mambaad.cli.reproduce import add_options, reproduce

    reproduce_parser = command("reproduce", reproduce, "run the study behind the paper's tables")
    add_options(reproduce_parser)
    device_options(reproduce_parser, threads=1)

    machine.add(command)
    return top

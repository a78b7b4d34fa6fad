"""The command line; one module per group of commands: data, train, predict, weights, export, machine.

Every mistake a user can make ends in one sentence and exit code 2; an interrupted run in exit code 130, one ended by
SIGTERM in 143.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mambaad.cli import data, evidence, export, machine, predict, train, weights
from mambaad.cli.options import Run, device_options
from mambaad.engine.interrupt import Terminated, sigterm_raises


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults there are; options without one say in their text what holds then."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, []) else super()._get_help_string(action)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = parser().parse_args(argv)
    try:
        with sigterm_raises():
            return arguments.run(arguments)
    except KeyboardInterrupt as stop:
        terminated = isinstance(stop, Terminated)
        print(
            f"{'terminated' if terminated else 'interrupted'}; the same command resumes from the last saved state, or "
            "starts again where there is none",
            file=sys.stderr,
        )
        return 143 if terminated else 130
    except (ValueError, FileNotFoundError, FloatingPointError) as error:
        print(f"mambaad {arguments.command}: {error}", file=sys.stderr)
        return 2


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
    weights.add(command)
    export.add(command)
    evidence.add(command)

    from mambaad.cli.reproduce import add_options, reproduce

    reproduce_parser = command("reproduce", reproduce, "run the study behind the paper's tables")
    add_options(reproduce_parser)
    device_options(reproduce_parser, threads=1)

    machine.add(command)
    return top

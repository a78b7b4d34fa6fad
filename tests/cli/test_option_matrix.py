"""Every option of every command with values that make no sense: it works, or it ends in one sentence and exit code 2.

Commands and options are read from the parser, so that a new one is tried without anybody thinking of it.  The default
run tries one value of each option, `-m slow` all of them.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Never

import pytest
from small_model import small

from mambaad import cli, save_checkpoint
from mambaad.cli import parser

NUMBERS = {int: ("0", "-1", "x", "1.5", "1" + "0" * 30), float: ("nan", "-1", "inf", "x", "1e-400", "-inf")}
PATHS = ("below a file", "missing", "a file", "", "not UTF-8", "nul")
TEXTS = ("", "nonsense", "-", "\udcff", "a/b", "x" * 300)


def commands(top: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command by its words, with its parser."""
    parts = [action for action in top._actions if isinstance(action, argparse._SubParsersAction)]
    for part in parts:
        for name, sub in part.choices.items():
            yield from commands(sub, (*words, name))
    if not parts:
        yield words, top


def values(action: argparse.Action) -> tuple[str, ...]:
    if action.choices is not None:
        return ("nonsense", "")
    kind: Any = action.type
    return PATHS if kind is Path else NUMBERS.get(kind, TEXTS)


def cases() -> Iterator[Any]:
    for words, sub in commands(parser()):
        for action in sub._actions:
            if action.nargs == 0:
                continue
            name = action.option_strings[0] if action.option_strings else action.dest
            for k, value in enumerate(values(action)):
                marks = () if k == 0 else pytest.mark.slow
                yield pytest.param(words, name, value, marks=marks, id=f"{'-'.join(words)} {name} {k}")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "c.pth"
    save_checkpoint(path, small(scan="sweep", directions=2), {"run": {"data": {"side": 64}}})
    return path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder; the long work of training, exporting and timing is not done, hosts are not asked."""

    def reached(*_: object, **__: object) -> Never:
        raise ValueError("nothing left to refuse")

    def host(*_: object, **__: object) -> Never:
        raise ConnectionError("no network in tests")

    for name in ("engine.run.train_run", "inference.export.export", "benchmarks.run_suite"):
        monkeypatch.setattr(f"mambaad.{name}", reached)
    monkeypatch.setattr("mambaad.inference.serve.serve", reached)
    monkeypatch.setattr("mambaad.study.evidence.carry_out.carry_out", reached)
    monkeypatch.setattr("mambaad.data.synthetic.generate.write_synthetic", reached)
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", host)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", host)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("text")
    return tmp_path


def usual(words: tuple[str, ...], drawn: Path, checkpoint: Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """A call of the command that works: its positional arguments and its options."""
    data, weights = {"--data": [str(drawn)]}, {"--weights": [str(checkpoint)]}
    machine = {"--device": ["cpu"], "--threads": ["1"]}
    train = {"--encoder-weights": ["random"], "--backbone": ["resnet18"], "--depths": ["1"] * 4, "--steps": ["1"]}
    known: dict[str, tuple[dict[str, list[str]], dict[str, list[str]]]] = {
        "data check": ({"root": [str(drawn)]}, {}),
        "data where": ({"name": ["visa"]}, {}),
        "train": ({}, {**data, "--out": ["out"], "--side": ["64"], "--batch-size": ["4"], **train, **machine}),
        "evaluate": ({}, {**data, **weights, "--dataset": ["mvtec_ad"], **machine}),
        "predict": (
            {"images": [str(drawn / "gear" / "test" / "good")]},
            {**weights, "--out": ["out"], "--maps": ["none"], "--no-overlays": [], "--gallery": ["0"], **machine},
        ),
        "calibrate": (
            {},
            {"--data": [str(drawn / "gear" / "test" / "good")], **weights, "--out": ["new.pth"], **machine},
        ),
        "weights": ({"action": ["verify"], "name": [str(checkpoint)]}, {}),
        "export": ({}, {**weights, "--out": ["model.onnx"]}),
        "evidence": ({}, {**data, "--results": ["results"], "--outputs": ["outputs"]}),
        "reproduce": (
            {},
            {
                "--profile": ["subset"],
                "--data-dir": [str(drawn)],
                "--results": ["results"],
                "--side": ["64"],
                **machine,
            },
        ),
        "report": ({"out": ["out"]}, data),
        "serve": ({}, {**weights, "--port": ["0"], **machine}),
        "benchmark": ({"suites": ["scan"]}, {"--out": ["out"]}),
    }
    return known.get(" ".join(words), ({}, {}))


def call(words: tuple[str, ...], name: str, wrong: str, place: Path, drawn: Path, checkpoint: Path) -> object:
    sub = dict(commands(parser()))[words]
    action = next(a for a in sub._actions if name in (*a.option_strings, a.dest))
    if action.type is Path:
        wrong = {
            "below a file": str(place / "file" / "below"),
            "missing": str(place / "missing"),
            "a file": str(place / "file"),
            "not UTF-8": str(place / "\udcff"),
            "nul": "a\0b",
        }.get(wrong, wrong)
    given = [wrong] * action.nargs if isinstance(action.nargs, int) else [wrong]
    positional, options = usual(words, drawn, checkpoint)
    if name.startswith("-"):
        options[name] = given
    else:
        positional[name] = given
    line = [*words, *(v for found in positional.values() for v in found)]
    line += [text for option, found in options.items() for text in (option, *found)]
    try:
        return cli.main(line)
    except SystemExit as stop:
        return stop.code


@pytest.mark.parametrize(("words", "name", "wrong"), list(cases()))
def test_a_value_that_makes_no_sense_ends_in_one_sentence(
    words: tuple[str, ...],
    name: str,
    wrong: str,
    place: Path,
    drawn: Path,
    checkpoint: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    code = call(words, name, wrong, place, drawn, checkpoint)
    sys.stderr.flush()
    said = [line for line in capfd.readouterr().err.replace("\r", "\n").splitlines() if line.strip()]
    assert code in (0, 1, 2), said
    if code == 2:
        last = said[-1]
        assert last.startswith((f"mambaad {words[0]}", "mambaad: error: unrecognized arguments")), said
        assert len(last) < 1500, last[:200]
        assert not last.endswith(":")
    assert not list(place.rglob(".*.tmp*"))
    if code != 0:  # evaluate and calibrate may be told to write there
        assert (place / "file").read_text() == "text"


def test_every_command_is_tried() -> None:
    found = {" ".join(words) for words, _ in commands(parser())}
    assert {"train", "predict", "data check"} <= found
    assert len(list(cases())) > 3 * len(found)

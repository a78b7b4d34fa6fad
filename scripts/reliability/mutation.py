"""Change one operator, number or comparison of the library at a time, and see whether a test notices.

    python scripts/reliability/mutation.py --sample 10 --out results/reliability/mutation.json

Mutations are those of cosmic-ray (`pip install 'mambaad[reliability]'`), a sample per file drawn by the seed; those
that change type annotations alone are no mutations.  Tests run in forks of this process, on a copy of the checkout.
The record is written after every mutation, and the same command continues it.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import hypothesis  # noqa: F401  imported before the first fork, as all that is slow to import
import numpy  # noqa: F401
import pytest
import scipy.ndimage  # noqa: F401
import timm  # noqa: F401
import torch
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).resolve().parents[2]
TARGETS: dict[str, list[str]] = {
    "mambaad/metrics/ranking.py": ["tests/metrics/test_metrics.py"],
    "mambaad/metrics/aupro.py": ["tests/metrics/test_metrics_aupro.py"],
    "mambaad/model/scan_order.py": ["tests/model/test_scan_order.py"],
    "mambaad/model/routes.py": ["tests/model/test_scan_order.py", "tests/model/test_blocks.py"],
    "mambaad/engine/optim.py": ["tests/engine/test_optim.py"],
    "mambaad/inference/threshold.py": ["tests/inference/test_threshold.py"],
    "mambaad/model/checkpoint.py": ["tests/model/test_checkpoint.py"],
}
LIMIT = 600.0  # seconds for the tests of one mutation: endless loops are noticed, too


class _Bare(ast.NodeTransformer):
    """Without annotations and docstrings: what is left decides what the code does."""

    def visit(self, node: ast.AST) -> Any:
        for name in ("annotation", "returns"):
            if getattr(node, name, None) is not None:
                setattr(node, name, None if not isinstance(node, ast.AnnAssign) else ast.Constant(None))
        return self.generic_visit(node)


def bare(code: str) -> str:
    return ast.dump(_Bare().visit(ast.parse(code)))


def mutations(code: str) -> list[tuple[str, int, str]]:
    """Operator, occurrence and mutated code of every change that is not one of annotations alone."""
    wanted, found = bare(code), []
    for name in sorted(operator_names()):
        if "Variable" in name:  # these ask which variables to exchange
            continue
        operator = get_operator(name)()
        for occurrence in range(10_000):
            changed = mutate_code(code, operator, occurrence)
            if changed is None:
                break
            try:
                if bare(changed) != wanted:
                    found.append((name.removeprefix("core/"), occurrence, changed))
            except SyntaxError:
                continue
    return found


def tests_pass(copy: Path, tests: list[str]) -> bool:
    """Whether the tests of a copy pass, in a fork; a test that does not end has noticed the change."""
    child = os.fork()
    if not child:
        code = 1
        try:
            os.setpgid(0, 0)
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, 1)
            os.dup2(nothing, 2)
            os.chdir(copy)
            sys.path[:0] = [str(copy), str(copy / "tests")]
            sys.dont_write_bytecode = True
            # hypothesis is imported already
            options = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
            code = int(pytest.main([*options, "--rootdir", str(copy), *tests]))
        finally:
            os._exit(code)
    began = time.monotonic()
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) == 0
        if time.monotonic() - began > LIMIT:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False
        time.sleep(0.1)


def difference(before: str, after: str) -> list[str]:
    """The lines that differ, - and +."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


def main() -> int:
    from mambaad.files import write_json

    for name in [name for name in sys.modules if name.partition(".")[0] == "mambaad"]:
        del sys.modules[name]  # forks import the copy
    # in a process of its own: operators that the library registers with torch cannot be registered again in a fork
    ask = "from mambaad.engine.environment import code_version; print(code_version()['commit'] or 'unknown')"
    version = subprocess.run([sys.executable, "-c", ask], check=True, capture_output=True, text=True).stdout.strip()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=10, help="mutations of each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="JSON record, continued where it is there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    record: dict[str, Any] = {
        "kind": "mutation",
        "command": f"python scripts/reliability/mutation.py --sample {arguments.sample} "
        f"--out results/reliability/{arguments.out.name}",
        "files": {},
        "code": [],
    }
    if arguments.out.is_file():
        record |= {k: v for k, v in json.loads(arguments.out.read_text()).items() if k != "command"}
    record["code"] = sorted({*record["code"], version})
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "copy"
        ignored = shutil.ignore_patterns(".venv", "build", ".git", "__pycache__", "results")
        shutil.copytree(ROOT, copy, ignore=ignored)
        todo = []
        for target, tests in TARGETS.items():
            code = (copy / target).read_text(encoding="utf-8")
            every = mutations(code)
            chosen = random.Random(f"{arguments.seed} {target}").sample(every, min(arguments.sample, len(every)))
            own = record["files"].setdefault(target, {"tests": tests, "mutations": len(every), "tried": {}})
            if "unchanged" not in own:
                own["unchanged"] = "passes" if tests_pass(copy, tests) else "fails"
                write_json(arguments.out, record)
            if own["unchanged"] != "passes":
                print(f"{target}: its tests fail without any mutation", flush=True)
                continue
            todo += [(k, target, name, changed) for k, (name, _, changed) in enumerate(chosen)]
        # one of each file by turns: a run that is cut short has looked at all
        for _, target, name, changed in sorted(todo, key=lambda entry: entry[0]):
            path, own = copy / target, record["files"][target]
            code = path.read_text(encoding="utf-8")
            lines = difference(code, changed)
            key = hashlib.sha256("\n".join([target, *lines]).encode()).hexdigest()[:10]
            if key in own["tried"]:
                continue
            path.write_text(changed, encoding="utf-8")
            survived = tests_pass(copy, own["tests"])
            path.write_text(code, encoding="utf-8")
            own["tried"][key] = {"operator": name, "change": lines, "survived": survived}
            write_json(arguments.out, record)
            print(f"{target} {key} {'SURVIVED' if survived else 'noticed'}: {' '.join(lines)}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

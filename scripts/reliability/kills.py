"""Kill tiny training runs at random moments, start them again until they finish, and compare with an undisturbed run.

    python scripts/reliability/kills.py --kills 200 --processes 1 --signal KILL --out results/reliability/kills_1.json

The final weights, the loss curve and every number of the record must be the same bit for bit; only times may differ.
Each finished run is written to the record at once; the same command continues.  A run is a fork of this process, so
that nearly all of its life is training, evaluation and writing rather than imports.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm  # noqa: F401  imported before the first fork
import torch
from tiny import NETWORK

from mambaad import cli
from mambaad.config import DataConfig, RunConfig, TrainConfig
from mambaad.data.synthetic.generate import write_synthetic
from mambaad.engine.environment import code_version
from mambaad.engine.execution import Execution
from mambaad.engine.records import record_path
from mambaad.engine.run import execute
from mambaad.engine.train import CHECKPOINT, TRAINING_STATE
from mambaad.files import write_json

RUN = RunConfig(
    model=NETWORK,
    encoder_weights="random",
    data=DataConfig(side=64, categories=("gear",)),
    train=TrainConfig(steps=12, batch_size=4, lr=1e-3, seed=3),
)


def start(work: Callable[[], int], environment: dict[str, str]) -> int:
    """Fork; the child does the work in a process group of its own and ends with its exit code.  Returns its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setpgid(0, 0)
        os.environ.update(environment)
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 2)
        code = cli.exit_code(work, "train")
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        os._exit(code)


def start_run(folder: Path, images: Path, processes: int) -> list[int]:
    """One run: its processes, the first one first, as torchrun would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    execution = Execution(device="cpu", progress=False, processes=processes)

    def work() -> int:
        execute(RUN, folder / "results", profile="quick", data_root=images, outputs=folder, execution=execution)
        return 0

    children = []
    for rank in range(processes):
        launched = {
            "TORCHELASTIC_RUN_ID": "kills",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes),
            "GROUP_RANK": "0",
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
        }
        children.append(start(work, launched if processes > 1 else {}))
    return children


def wait(children: list[int], seconds: float | None) -> dict[int, int]:
    """Exit codes of those that have ended after some seconds; negative: the signal that ended one."""
    ended: dict[int, int] = {}
    until = None if seconds is None else time.monotonic() + seconds
    while len(ended) < len(children):
        for child in set(children) - ended.keys():
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                ended[child] = os.waitstatus_to_exitcode(status)
        if until is not None and time.monotonic() >= until:
            break
        time.sleep(0.002)
    return ended


def outcome(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Weights and record of a finished run, its times taken out."""
    content = json.loads(record_path(folder / "results", "quick", RUN.hash).read_text(encoding="utf-8"))
    del content["wall_seconds"], content["train"]["seconds_per_step"]
    checkpoint = folder / "runs" / f"quick_{RUN.hash}" / CHECKPOINT
    return torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"], content


def same(one: tuple[dict[str, torch.Tensor], Any], other: tuple[dict[str, torch.Tensor], Any]) -> bool:
    (weights, record), (others, other_record) = one, other
    return (
        weights.keys() == others.keys()
        and record == other_record
        and all(map(torch.equal, weights.values(), others.values()))
    )


def moment(folder: Path) -> str:
    """Where a run was when it was killed, by the files it left."""
    own = folder / "runs" / f"quick_{RUN.hash}"
    if record_path(folder / "results", "quick", RUN.hash).is_file():
        return "after the record"
    if list(own.glob(".*.tmp*")) or list((folder / "results").glob("runs/.*.tmp*")):
        return "while writing a file"
    if (own / CHECKPOINT).is_file():
        return "evaluation and record"
    return "training" if (own / TRAINING_STATE).is_file() else "before the first state"


def one_run(
    folder: Path, images: Path, processes: int, number: int, usual: float, chance: random.Random
) -> dict[str, Any]:
    """Start a run again and again until it finishes; how often it was killed, where, and what ended otherwise."""
    moments: Counter[str] = Counter()
    wrong: list[str] = []
    while True:
        children = start_run(folder, images, processes)
        ended = wait(children, chance.uniform(0.02, 1.1 * usual))
        alive = [child for child in children if child not in ended]
        if not alive:
            wrong += [f"exit code {code}" for code in ended.values() if code]
            if wrong or record_path(folder / "results", "quick", RUN.hash).is_file():
                return {"moments": dict(moments), "kills": moments.total(), "wrong": wrong}
            continue
        # one of several may be taken away alone; others that wait for it in vain are killed three seconds later
        victims = alive if chance.random() < 0.5 else [chance.choice(alive)]
        for child in victims:
            os.kill(child, number)
        left = wait(alive, 3 if number == signal.SIGKILL else 60)
        for child in set(alive) - left.keys():
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            if number != signal.SIGKILL:
                wrong.append("did not end")
        moments[moment(folder)] += 1
        if number != signal.SIGKILL:
            expected = {128 + number, -number, 0}  # -number: before the command had begun; 0: it was finished
            wrong += [f"exit code {code}" for child, code in left.items() if processes == 1 and code not in expected]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--signal", choices=["KILL", "TERM", "INT"], default="KILL")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="JSON record, continued where it is there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    number = signal.Signals[f"SIG{arguments.signal}"]
    record = {
        "kind": "kills",
        "command": f"python scripts/reliability/kills.py --kills {arguments.kills} --processes {arguments.processes} "
        f"--signal {arguments.signal} --seed {arguments.seed} --out results/reliability/{arguments.out.name}",
        "signal": number.name,
        "processes": arguments.processes,
        "wanted": arguments.kills,
        "kills": 0,
        "runs": 0,
        "runs_equal": 0,
        "moments": {},
        "wrong": [],
        "code": [],
    }
    if arguments.out.is_file():
        kept = json.loads(arguments.out.read_text())
        for name in ("signal", "processes"):
            if kept[name] != record[name]:
                parser.error(
                    f"{arguments.out} was made with {name} {kept[name]}, not {record[name]}: name another file"
                )
        record |= {k: v for k, v in kept.items() if k not in ("command", "wanted")}
    record["code"] = sorted({*record["code"], code_version()["commit"] or "unknown"})
    with tempfile.TemporaryDirectory() as place:
        top = Path(place)
        images = write_synthetic(top / "images", side=64, seed=0, train=9, test=6, categories=("gear",))
        before = time.monotonic()
        undisturbed = wait(start_run(top / "whole", images, arguments.processes), None)
        usual = time.monotonic() - before
        if any(undisturbed.values()):
            print(f"the undisturbed run ended with {sorted(undisturbed.values())}", file=sys.stderr)
            return 1
        wanted = outcome(top / "whole")
        while record["kills"] < arguments.kills:
            folder = top / "killed"
            chance = random.Random(f"{arguments.seed} {record['runs']}")
            done = one_run(folder, images, arguments.processes, number, usual, chance)
            equal = not done["wrong"] and same(outcome(folder), wanted)
            shutil.rmtree(folder)
            record["runs"] += 1
            record["kills"] += done["kills"]
            record["runs_equal"] += equal
            record["moments"] = dict(Counter(record["moments"]) + Counter(done["moments"]))
            record["wrong"] += done["wrong"]
            write_json(arguments.out, record)
            print(f"{record['kills']} kills, {record['runs_equal']} of {record['runs']} runs equal", file=sys.stderr)
    return 0 if record["runs"] == record["runs_equal"] else 1


if __name__ == "__main__":
    raise SystemExit(main())

"""Cause faults around tiny training runs: each must end in one sentence and exit code 2, and cost nothing.

    python scripts/reliability/faults.py --out results/reliability/faults.json

After each fault the same command runs again without it and must end in the weights of an undisturbed run, bit for bit.
Full and read-only disks are real ones, for which small file systems in memory are mounted; that takes root.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import timm  # noqa: F401  imported before the first fork
import torch

from mambaad import cli
from mambaad.config import RunConfig
from mambaad.data.synthetic.generate import write_synthetic
from mambaad.engine import feature_cache, run
from mambaad.engine.environment import code_version
from mambaad.engine.lock import HOLDER, LOCK
from mambaad.engine.train import CHECKPOINT
from mambaad.files import write_json
from mambaad.model.checkpoint import read_checkpoint

OPTIONS = ["--depths", "2", "2", "2", "2", "--directions", "2", "--side", "64", "--steps", "12", "--batch-size", "4"]
ENCODER = ["--encoder-weights", "random", "--backbone", "resnet18", "--device", "cpu"]
PROGRESS = ("train:", "check:", "evaluate:", "encode:", "scores:")
Ending = tuple[int, list[str]]
"""Exit code, and the lines said on stderr without those of progress."""


def train(images: Path, out: Path, prepare: Callable[[], object] = lambda: None, *options: str) -> Ending:
    """`mambaad train` in a fork, in which `prepare` brings the fault about first."""
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if not child:
            code = 1
            try:
                os.dup2(said.fileno(), 2)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                prepare()
                code = cli.main(["train", "--data", str(images), "--out", str(out), *OPTIONS, *ENCODER, *options])
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.seek(0)
        lines = [line for line in said.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return code, [line for line in lines if not line.startswith(PROGRESS)]


def weights(out: Path) -> dict[str, torch.Tensor]:
    (path,) = out.glob(f"runs/own_*/{CHECKPOINT}")
    return read_checkpoint(path)["state_dict"]


def leftovers(*folders: Path) -> list[str]:
    return [path.name for folder in folders for path in folder.rglob(".*.tmp*")]


@contextmanager
def mounted(place: Path, size: str) -> Iterator[Path]:
    """A file system in memory."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


class Faults:
    """Each method is a fault: it returns how the command ended, and where the same command can go on."""

    def __init__(self, top: Path, images: Path) -> None:
        self.top, self.images = top, images

    def disk_full(self, out: Path) -> Ending:
        with mounted(self.top / "small", "3m") as small:
            ending = train(self.images, small / "out")
            assert not leftovers(small), leftovers(small)
            # what was saved there moves to where there is room
            shutil.copytree(small / "out", out, dirs_exist_ok=True)
        return ending

    def file_size_limit(self, out: Path) -> Ending:
        limit = 2**20
        ending = train(self.images, out, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
        assert not leftovers(out), leftovers(out)
        return ending

    def read_only_output(self, out: Path) -> Ending:
        with mounted(self.top / "locked", "3m") as locked:
            subprocess.run(["mount", "-o", "remount,ro", str(locked)], check=True)
            return train(self.images, locked / "out")

    def output_is_a_file(self, out: Path) -> Ending:
        place = self.top / "file"
        place.write_text("text")
        ending = train(self.images, place)
        assert place.read_text() == "text"
        return ending

    def training_image_vanishes(self, out: Path) -> Ending:
        return self._spoilt(out, "train/good", lambda path: path.unlink())

    def training_image_is_cut_short(self, out: Path) -> Ending:
        return self._spoilt(out, "train/good", lambda path: path.write_bytes(path.read_bytes()[:300]))

    def test_image_vanishes_before_evaluation(self, out: Path) -> Ending:
        return self._spoilt(out, "test/good", lambda path: path.unlink(), before="evaluate_run")

    def _spoilt(self, out: Path, folder: str, spoil: Callable[[Path], object], before: str = "train_run") -> Ending:
        """Spoil an image once the run has looked at all of them."""
        image = sorted((self.images / "gear" / folder).iterdir())[0]
        whole = image.read_bytes()
        status = image.stat()

        def prepare() -> None:
            work = getattr(run, before)

            def later(*arguments: Any, **options: Any) -> Any:
                spoil(image)
                return work(*arguments, **options)

            setattr(run, before, later)

        try:
            return train(self.images, out, prepare)
        finally:
            image.write_bytes(whole)
            os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))

    def out_of_memory(self, out: Path) -> Ending:
        def prepare() -> None:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            most = pages * os.sysconf("SC_PAGE_SIZE") + 2**21
            resource.setrlimit(resource.RLIMIT_AS, (most, most))

        return train(self.images, out, prepare)

    def features_do_not_fit(self, out: Path) -> Ending:
        return train(
            self.images, out, lambda: setattr(feature_cache, "free_memory", lambda _: 1000), "--features", "float32"
        )

    def two_on_one_folder(self, out: Path) -> Ending:
        """The second one is told by whom the folder is held, and the first one is not disturbed."""
        ready, go = os.pipe()
        first = os.fork()
        if not first:
            os.close(ready)

            def wait(*arguments: Any, **options: Any) -> Any:
                os.write(go, b"x")
                time.sleep(60)

            run.train_run = wait
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            cli.main(["train", "--data", str(self.images), "--out", str(out), *OPTIONS, *ENCODER])
            os._exit(0)
        os.close(go)
        os.read(ready, 1)
        ending = train(self.images, out)
        assert f"process {first}" in " ".join(ending[1]), ending
        os.kill(first, 9)
        os.waitpid(first, 0)
        return ending

    def stale_lock(self, out: Path) -> Ending:
        """Files of a lock whose process was killed: nobody holds them, and the run goes ahead."""
        ending = self.two_on_one_folder(out)
        (folder,) = out.glob("runs/own_*")
        assert (folder / LOCK).is_file()
        assert (folder / HOLDER).is_file()
        return ending


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", help="names of faults")
    parser.add_argument("--out", type=Path, required=True, help="JSON record")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    assert RunConfig().hash  # imports what the first fork would
    names = [name for name in vars(Faults) if not name.startswith("_")]
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        top = Path(place)
        images = write_synthetic(top / "images", side=64, seed=0, train=9, test=6, categories=("gear",))
        code, said = train(images, top / "whole")
        assert code == 0, said
        wanted = weights(top / "whole")
        for name in arguments.only or names:
            out = top / name
            try:
                code, said = getattr(Faults(top, images), name)(out)
            except (AssertionError, subprocess.CalledProcessError) as error:
                found[name] = {"ok": False, "why": f"{type(error).__name__}: {error}"}
                print(name, found[name], flush=True)
                continue
            again, _ = train(images, out)
            equal = again == 0 and all(torch.equal(v, weights(out)[k]) for k, v in wanted.items())
            found[name] = {
                "exit_code": code,
                "said": [line.replace(str(top), "...") for line in said],
                "same_weights_afterwards": equal,
                "left_over": leftovers(out),
                "ok": code == 2 and len(said) == 1 and equal and not leftovers(out),
            }
            print(name, found[name], flush=True)
    record = {
        "kind": "faults",
        "command": f"python scripts/reliability/faults.py --out results/reliability/{arguments.out.name}",
        "code": [code_version()["commit"] or "unknown"],
        "faults": found,
    }
    write_json(arguments.out, record)
    return 0 if all(entry["ok"] for entry in found.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())

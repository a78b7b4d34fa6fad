"""Hand inputs that nobody would write to everything that reads a file: each one works or ends in one sentence.

    python scripts/reliability/fuzz.py --inputs 100000 --out results/reliability/fuzz.json

Tables, JSON indices, settings, thresholds, checkpoints and images are made by hypothesis or damaged byte by byte, and
read as the command line reads them.  What counts as wrong: any ending but exit code 0, or 2 with one line on stderr (1
with a report on stdout for a data set found faulty); and any other file that appeared or changed.  The record is
written after every portion, and the same command continues it.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import re
import tempfile
import traceback
import warnings
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from mambaad import cli
from mambaad.baselines import load_method
from mambaad.config import METHOD_CONFIGS, ModelConfig, TrainConfig, to_dict
from mambaad.config.parse import parse
from mambaad.data.pixels import image_size, read_mask, read_rgb
from mambaad.engine.environment import code_version
from mambaad.files import write_json
from mambaad.inference.threshold import calibrate, stored_threshold
from mambaad.model import MambaAD
from mambaad.model.checkpoint import read_checkpoint, write_checkpoint

Read = Callable[[Any], object]
"""What reads an input; returns or raises as behind the command line."""
DATA_SETS = ("tables", "meta.json", "index of Real-IAD")
READINGS = {"images": 3}
"""How often an input is read, where that is more than once: each may say its line."""
SMALL = ModelConfig(
    backbone="resnet18",
    backbone_kwargs={"channels": (8, 8, 8, 8)},
    depths=(1, 1, 1, 1),
    hss_per_lss=1,
    directions=2,
    scan="sweep",
    state_size=2,
)

TEXT = st.text(max_size=12) | st.sampled_from(
    ["", "good", "OK", "train", "../x", "a.png", "\0", "/etc/passwd", "C:\\x"]
)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def damaged(wholes: list[bytes]) -> st.SearchStrategy[bytes]:
    """Files with some bytes changed, a piece cut out or put in, or the end missing; now and then any bytes."""

    @st.composite
    def one(draw: Any) -> bytes:
        content = bytearray(draw(st.sampled_from(wholes)))
        for _ in range(draw(st.integers(1, 4))):
            # headers tell more than pixels: half of the changes are within the first hundred bytes
            last = max(len(content) - 1, 0)
            at = draw(st.integers(0, min(last, 100)) | st.integers(0, last))
            piece = draw(st.binary(max_size=8))
            match draw(st.sampled_from(["change", "cut", "insert", "end"])):
                case "change":
                    content[at : at + len(piece)] = piece
                case "cut":
                    del content[at : at + draw(st.integers(1, 40))]
                case "insert":
                    content[at:at] = piece
                case "end":
                    del content[at:]
        return bytes(content)

    return one() | st.binary(max_size=200)


def image_files() -> dict[str, bytes]:
    pixels = np.random.default_rng(0).integers(0, 255, (9, 12, 3), dtype=np.uint8)
    found = {}
    for kind in ("PNG", "JPEG", "TIFF", "BMP", "WEBP"):
        for mode in ("RGB", "L"):
            buffer = io.BytesIO()
            Image.fromarray(pixels).convert(mode).save(buffer, kind)
            found[f"{kind} {mode}"] = buffer.getvalue()
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 200).save(buffer, "PNG")
    return found | {"PNG 16 bits": buffer.getvalue()}


class Readers:
    """Every input's strategy and reader; all read from one folder, which must stay as it was."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        torch.manual_seed(0)
        model = MambaAD(SMALL, weights="random")
        self.content: dict[str, Any] = {
            "format": "mambaad-checkpoint-1",
            "config": to_dict(SMALL),
            "state_dict": model.state_dict(),
            "threshold": asdict(calibrate([0.1, 0.2], 0.5, side=64)),
            "run": {"data": {"side": 64}},
        }
        write_checkpoint(
            folder / "small.pth", {"a": torch.zeros(3), "config": {"depths": [1, 2]}, "b": [1.5, "x", None]}
        )
        self.small = (folder / "small.pth").read_bytes()
        for name in ("visa/split_csv", "meta", "realiad/part/OK"):
            (folder / name).mkdir(parents=True)
        for name in ("visa/a.png", "meta/a.png", "realiad/part/OK/a.png"):
            (folder / name).write_bytes(image_files()["PNG RGB"])
        self.parts = [(self.file(f"image.{s}"), s) for s in ("png", "jpg", "tif", "bmp", "webp")]
        self.table, self.meta = self.file("visa/split_csv/1cls.csv"), self.file("meta/meta.json")
        self.real_iad, self.checkpoint = self.file("realiad/part.json"), self.file("damaged.pth")

    def file(self, name: str) -> Path:
        path = self.folder / name
        path.write_bytes(b"")
        return path

    def fed(self) -> set[Path]:
        """The files that inputs are written to."""
        return {self.table, self.meta, self.real_iad, self.checkpoint, *(path for path, _ in self.parts)}

    def check(self, dataset: str, root: str) -> int:
        line = ["data", "check", str(self.folder / root), "--dataset", dataset, "--quick"]
        return cli.main(line)

    def all(self) -> dict[str, tuple[st.SearchStrategy[Any], Read, float]]:
        """Strategy, reader and share of the inputs, by what is read."""
        images = image_files()
        row = st.tuples(*[TEXT | st.sampled_from(["part", "a.png", "normal", "anomaly"])] * 5).map(",".join)
        tables = st.lists(row, max_size=4).map(
            lambda rows: "\n".join(["object,split,label,image,mask", *rows]).encode("utf-8", "surrogatepass")
        )
        entry = st.fixed_dictionaries(
            {},
            optional={
                "img_path": st.just("a.png") | VALUE,
                "image_path": st.just("OK/a.png") | VALUE,
                "mask_path": TEXT | VALUE,
                "anomaly": st.sampled_from([0, 1]) | VALUE,
                "anomaly_class": st.just("OK") | VALUE,
                "specie_name": VALUE,
            },
        )
        entries = st.lists(entry | VALUE, max_size=3)
        index = st.fixed_dictionaries({}, optional=dict.fromkeys(("train", "test"), entries | VALUE)) | VALUE
        by_category = st.dictionaries(TEXT, entries, max_size=2) | VALUE
        meta = (
            st.fixed_dictionaries({}, optional=dict.fromkeys(("train", "test", "validation", "x"), by_category)) | VALUE
        )
        kinds = (ModelConfig, TrainConfig, *METHOD_CONFIGS.values())
        fields = st.sampled_from(kinds).flatmap(
            lambda kind: st.tuples(
                st.just(kind), st.dictionaries(st.sampled_from(sorted(to_dict(kind()))) | TEXT, VALUE, max_size=3)
            )
        )
        threshold = st.dictionaries(st.sampled_from(sorted(self.content["threshold"])) | TEXT, VALUE, max_size=3)
        contents = st.dictionaries(st.sampled_from([*self.content, "net"]) | TEXT, VALUE, min_size=1, max_size=2)
        config = st.dictionaries(st.sampled_from(sorted(to_dict(SMALL))) | TEXT, VALUE, min_size=1, max_size=2)
        return {
            "tables": (
                tables | damaged([b"object,split,label,image,mask\npart,train,normal,a.png,\n"]),
                self.read_table,
                0.1,
            ),
            "meta.json": (meta.map(as_json) | damaged([b'{"train": {"part": []}, "test": {}}']), self.read_meta, 0.1),
            "index of Real-IAD": (
                index.map(as_json) | damaged([b'{"train": [], "test": []}']),
                self.read_real_iad,
                0.1,
            ),
            "settings": (fields, self.read_settings, 0.15),
            "thresholds": (threshold | VALUE, self.read_threshold, 0.1),
            "images": (st.tuples(st.integers(0, 4), damaged(list(images.values()))), self.read_image, 0.3),
            "bytes of checkpoints": (damaged([self.small]), self.read_bytes, 0.13),
            "contents of checkpoints": (contents | config.map(lambda c: {"config": c}), self.read_content, 0.02),
        }

    def read_table(self, content: bytes) -> object:
        self.table.write_bytes(content)
        return self.check("visa", "visa")

    def read_meta(self, content: bytes) -> object:
        self.meta.write_bytes(content)
        return self.check("meta_json", "meta")

    def read_real_iad(self, content: bytes) -> object:
        self.real_iad.write_bytes(content)
        return self.check("realiad", "realiad")

    def read_settings(self, given: tuple[type[Any], dict[str, Any]]) -> object:
        kind, values = given
        return cli.exit_code(lambda: succeeded(parse(kind, {**to_dict(kind()), **values})), "fuzz")

    def read_threshold(self, values: Any) -> object:
        whole = {**self.content["threshold"], **values} if isinstance(values, dict) else values
        return cli.exit_code(lambda: succeeded(stored_threshold({"threshold": whole})), "fuzz")

    def read_image(self, given: tuple[int, bytes]) -> object:
        path, _ = self.parts[given[0]]
        path.write_bytes(given[1])
        readers: tuple[Callable[[Path], object], ...] = (read_rgb, read_mask, image_size)
        codes = [cli.exit_code(partial(lambda read: succeeded(read(path)), read), "fuzz") for read in readers]
        return max(codes)

    def read_bytes(self, content: bytes) -> object:
        self.checkpoint.write_bytes(content)
        return cli.exit_code(lambda: succeeded(read_checkpoint(self.checkpoint)), "fuzz")

    def read_content(self, changes: dict[str, Any]) -> object:
        values = dict(changes)
        if isinstance(values.get("config"), dict):
            values["config"] = {**self.content["config"], **values["config"]}
        return cli.exit_code(lambda: succeeded(load_method({**self.content, **values})), "fuzz")


def succeeded(_: object) -> int:
    return 0


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def listing(folder: Path, fed: set[Path]) -> set[tuple[str, bytes]]:
    """What lies in a folder, with the contents of the files that inputs are not written to."""
    return {
        (str(path.relative_to(folder)), b"" if path.is_dir() or path in fed else path.read_bytes())
        for path in folder.rglob("*")
    }


def unexpected(code: object, said: str, printed: str, data_set: bool, readings: int) -> str:
    """What is wrong with an ending, in words; nothing where it is one of those allowed."""
    lines = said.strip().splitlines()
    if "Traceback (most recent call last)" in said:
        return said
    if code == 0 and not lines:
        return ""
    if data_set and code == 1 and printed.strip():
        return ""
    if not data_set and code == 2 and 1 <= len(lines) <= readings:
        return ""
    return f"exit code {code}, said {lines}"


def portion(
    strategy: st.SearchStrategy[Any], read: Read, number: int, start: int, folder: Path, fed: set[Path], name: str
) -> tuple[dict[str, int], list[dict[str, str]]]:
    """Try some inputs; endings by exit code, and what went wrong."""
    endings: dict[str, int] = {}
    wrong: list[dict[str, str]] = []
    before = listing(folder, fed)

    @seed(start)
    @settings(
        max_examples=number,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def attempt(value: Any) -> None:
        said, printed = io.StringIO(), io.StringIO()
        reason = ""
        code: object = None
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(printed), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                code = read(value)
        except BaseException:
            # a record holds no paths
            reason = re.sub(r'File "[^"]*/', 'File "', traceback.format_exc(limit=-4))
        if not reason:
            reason = unexpected(code, said.getvalue(), printed.getvalue(), name in DATA_SETS, READINGS.get(name, 1))
        if not reason and (changed := listing(folder, fed) ^ before):
            reason = f"files appeared, vanished or changed: {sorted({path for path, _ in changed})}"
        ending = "wrong" if reason else str(code)
        endings[ending] = endings.get(ending, 0) + 1
        if reason and len(wrong) < 20:
            wrong.append({"input": base64.b64encode(repr(value).encode("utf-8", "replace")).decode(), "why": reason})

    attempt()
    return endings, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--portion", type=int, default=1000)
    parser.add_argument("--out", type=Path, required=True, help="JSON record, continued where it is there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    record: dict[str, Any] = {
        "kind": "fuzz",
        "command": f"python scripts/reliability/fuzz.py --inputs {arguments.inputs} "
        f"--portion {arguments.portion} --out results/reliability/{arguments.out.name}",
        "inputs": {},
        "endings": {},
        "wrong": [],
        "code": [],
    }
    if arguments.out.is_file():
        record |= {k: v for k, v in json.loads(arguments.out.read_text()).items() if k != "command"}
    record["code"] = sorted({*record["code"], code_version()["commit"] or "unknown"})
    with tempfile.TemporaryDirectory() as place:
        made = Readers(Path(place))
        readers = made.all()
        while left := {n: r for n, r in readers.items() if record["inputs"].get(n, 0) < arguments.inputs * r[2]}:
            for name, (strategy, read, share) in left.items():
                done = record["inputs"].get(name, 0)
                number = min(arguments.portion, max(10, int(arguments.portion * share * 10)))
                endings, wrong = portion(strategy, read, number, done, Path(place), made.fed(), name)
                record["inputs"][name] = done + sum(endings.values())
                own = record["endings"].setdefault(name, {})
                for code, count in endings.items():
                    own[code] = own.get(code, 0) + count
                record["wrong"] += [{"read": name, **case} for case in wrong]
                write_json(arguments.out, record)
                print(f"{name}: {record['inputs'][name]} inputs, {own}", flush=True)
    return 1 if record["wrong"] else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""The published checkpoints by name: from the authors' Hugging Face repository, pinned and hashed at first use.

The commit that a file first came from and its SHA-256 are written to a JSON file of the user's; from then on the same
commit is asked for, and a file of another hash is refused. Nothing is known of the hashes beforehand.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import huggingface_hub

from mambaad.data.datasets.catalog import DATASETS, PAPER_DATASETS
from mambaad.data.datasets.spec import DatasetSpec
from mambaad.files import write_json

REPOSITORY = "Lewandofski/MambaAD"
ELSEWHERE = f"download it from the Hugging Face repository {REPOSITORY} on another machine and give the file's path"


PUBLISHED: Mapping[str, DatasetSpec] = {spec.name: spec for spec in DATASETS.values() if spec.weights}
"""The data sets that there are published weights for, by name."""


def trained_on(name: str) -> DatasetSpec | None:
    """The data set whose published weights have this name: its own, or the paper's (`mvtec` for `mvtec_ad`); None if
    there are none."""
    same = PAPER_DATASETS.get(name, ())
    return PUBLISHED.get(name) or (same[0] if len(same) == 1 else None)


@dataclass(frozen=True, kw_only=True)
class Pin:
    """What was found at first use."""

    repository: str
    revision: str
    """Commit of the repository."""
    file: str
    """Path in the repository."""
    sha256: str
    bytes: int


class WeightsError(ValueError):
    """Published weights are unavailable, or are not those of the first use."""


def pins_file() -> Path:
    """Where pins are kept: the environment variable MAMBAAD_PINS, else ~/.local/share/mambaad/published_weights.json.

    Not in a cache: what is emptied at will must not decide which file is trusted.
    """
    named = os.environ.get("MAMBAAD_PINS")
    return (
        Path(named).expanduser() if named else Path.home() / ".local" / "share" / "mambaad" / "published_weights.json"
    )


def read_pins() -> dict[str, Pin]:
    """The pins by data set; none before first use.  Raises WeightsError if the file cannot be read."""
    path = pins_file()
    if not path.is_file():
        return {}
    try:
        pins = {name: Pin(**values) for name, values in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path} cannot be read ({error}): correct or remove it") from error
    return {spec.name if (spec := trained_on(name)) else name: pin for name, pin in pins.items()}


def pin_of(name: str) -> Pin | None:
    """What was found at the first use of a name; None before.  Raises WeightsError for an unknown name."""
    return read_pins().get(_published(name).name)


def fetch(name: str, revision: str | None = None) -> Path:
    """The file of published weights, downloaded unless it is in the Hugging Face cache; pinned at first use.

    Interrupted downloads are continued by the hub's client where the hub allows it.

    Args:
        name: one of `PUBLISHED`, or the paper's name for it.
        revision: branch, tag or commit; default: the commit of the first use, or the main branch's.

    Raises:
        WeightsError: unknown name; the hub cannot be reached or has no such file; a hash other than the pinned one.
    """
    spec = _published(name)
    pin = pin_of(name)
    try:
        if revision is not None or pin is None:
            commit = str(huggingface_hub.HfApi().repo_info(REPOSITORY, revision=revision).sha)
        else:
            commit = pin.revision
        file = pin.file if pin is not None else _file_in(spec, commit)
        path = Path(huggingface_hub.hf_hub_download(REPOSITORY, file, revision=commit))
    except WeightsError:
        raise
    except Exception as error:  # the hub client's errors, and those of what it connects with, have no common base
        raise WeightsError(
            f"the published weights {name!r} are not in the Hugging Face cache and could not be fetched "
            f"({type(error).__name__}): {ELSEWHERE}"
        ) from error
    found = Pin(repository=REPOSITORY, revision=commit, file=file, sha256=sha256(path), bytes=path.stat().st_size)
    if pin is None:
        _write_pins({**read_pins(), spec.name: found})
    else:
        _compare(name, path, found.sha256, pin)
    return path


def cached(name: str) -> Path | None:
    """The file of a pinned name if it is in the Hugging Face cache; asks no host.  Raises WeightsError as `fetch`."""
    pin = pin_of(name)
    if pin is None:
        return None
    path = huggingface_hub.try_to_load_from_cache(REPOSITORY, pin.file, revision=pin.revision)
    return Path(path) if isinstance(path, str) else None


def check(name: str, path: str | Path) -> Pin | None:
    """Compare a file with the pin of a name; returns the pin, None if there is none.

    Raises:
        WeightsError: unknown name, or the file's hash is another; the message names both.
    """
    pin = pin_of(name)
    if pin is not None:
        _compare(name, Path(path), sha256(path), pin)
    return pin


def resolve(weights: str | Path) -> Path:
    """A checkpoint by the path of its file, by a folder that holds one (a run's, or the `--out` of `mambaad train`),
    or, where there is neither, by its published name, which is then fetched. `published_by` tells which it was.

    Raises:
        WeightsError: no file, no such folder and no name; a folder with no checkpoint or several; and as `fetch`.
    """
    path = Path(weights)
    if path.is_file():
        return path
    found = _checkpoints_in(path)
    if len(found) == 1:
        return found[0]
    if published_by(weights) is not None:
        return fetch(str(weights))
    if path.is_dir():
        several = f"several: {', '.join(str(one.relative_to(path)) for one in found[:5])}" if found else "none"
        raise WeightsError(f"{path}: expected a folder with one checkpoint, found {several}; name the file")
    raise WeightsError(
        f"the checkpoint {weights} does not exist: give the path of a file, or the name of published weights "
        f"({', '.join(PUBLISHED)})"
    )


def published_by(weights: str | Path) -> DatasetSpec | None:
    """The data set whose published weights `resolve` takes; None for a file, or for a folder that holds checkpoints,
    whatever they are called."""
    own = Path(weights).is_file() or _checkpoints_in(Path(weights))
    return None if own else trained_on(str(weights))


def _checkpoints_in(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.pth"), *folder.glob("runs/*/checkpoint.pth")]) if folder.is_dir() else []


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _published(name: str) -> DatasetSpec:
    spec = trained_on(name)
    if spec is None:
        raise WeightsError(f"there are no published weights {name!r}: known are {', '.join(PUBLISHED)}")
    return spec


def _file_in(spec: DatasetSpec, commit: str) -> str:
    """The checkpoint's path at a commit: the one known or, where it was renamed, the only one in its folder."""
    listed = huggingface_hub.HfApi().list_repo_files(REPOSITORY, revision=commit)
    if spec.weights in listed:
        return spec.weights
    folder = spec.weights.rpartition("/")[0]
    found = [path for path in listed if path.startswith(folder + "/") and path.endswith(".pth")]
    if len(found) != 1:
        raise WeightsError(
            f"one .pth file was expected in {folder} of {REPOSITORY}, found {', '.join(found) or 'none'}: "
            "download the right one and give its path"
        )
    return found[0]


def _compare(name: str, path: Path, found: str, pin: Pin) -> None:
    if found != pin.sha256:
        raise WeightsError(
            f"{path} has the SHA-256 {found}, but at first use {name!r} had {pin.sha256}: do not use it, or remove the "
            f"entry in {pins_file()} if the change is known"
        )


def _write_pins(pins: Mapping[str, Pin]) -> None:
    values: dict[str, Any] = {name: asdict(pin) for name, pin in pins.items()}
    write_json(pins_file(), values)

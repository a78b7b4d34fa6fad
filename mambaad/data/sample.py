"""What a data set is: a list of samples; and what every loader needs to make one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal, Protocol

INDEX_FOLDER = "mambaad_index"
"""Folder of files that the library makes from a data set's annotations, below its root or in the user's cache."""


class DatasetError(ValueError):
    """A data set on disk is not what its layout promises; the message names the file and what was expected."""


@dataclass(frozen=True)
class Sample:
    """One image: where it lies, what it shows, and where its defects are marked."""

    image: Path
    category: str
    split: Literal["train", "test"]
    defect: str = "good"
    """Kind of defect, the name of its folder; "good" for none."""
    mask: Path | None = None
    """Image that is above 0 where defective; None for good images and where there is no ground truth."""
    upright: bool = True
    """Whether image and mask are turned as their EXIF orientation says; False: read as stored."""

    @property
    def is_defect(self) -> bool:
        return self.defect != "good"


OnFault = Callable[[str], None]
"""What a loader does with a fault of one file: `raise_fault`, or note it and go on."""


def raise_fault(message: str) -> None:
    """Raise DatasetError: what loaders do with the first fault they meet."""
    raise DatasetError(message)


class Loader(Protocol):
    """The samples of the named categories, in the order given, or of all; faults of single files go to `on_fault`."""

    def __call__(
        self, root: str | Path, categories: Sequence[str] = (), on_fault: OnFault = raise_fault, /
    ) -> list[Sample]: ...


def index_hash(samples: Iterable[Sample], root: str | Path) -> str:
    """First 12 hex digits of the SHA-256 over every image's and mask's path below `root` and its size in bytes.

    Independent of the order of the samples, of where the root lies and of file times. Of masks that the library drew
    itself only the path counts: it names the annotations behind them, and their size depends on the PNG encoder.
    """
    root = Path(root)
    files = {path for sample in samples for path in (sample.image, sample.mask) if path is not None}
    lines = []
    for path in files:
        if INDEX_FOLDER in path.parts:
            lines.append("/".join(path.parts[path.parts.index(INDEX_FOLDER) :]) + "\n")
        else:
            lines.append(f"{path.relative_to(root).as_posix()} {path.stat().st_size}\n")
    return hashlib.sha256("".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()[:12]


def names_hash(samples: Iterable[Sample]) -> str:
    """First 12 hex digits of the SHA-256 over the images' names and sizes in bytes, in their order."""
    lines = (f"{sample.image.name} {sample.image.stat().st_size}\n" for sample in samples)
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:12]


def counts(samples: Iterable[Sample]) -> dict[str, dict[str, int]]:
    """Images per category, in order of appearance: `{category: {"train": n, "test_good": n, "test_defect": n}}`.

    Example:
        >>> good = Sample(image=Path("a.png"), category="gear", split="train", defect="good")
        >>> counts([good])
        {'gear': {'train': 1, 'test_good': 0, 'test_defect': 0}}
    """
    table: dict[str, dict[str, int]] = {}
    for sample in samples:
        row = table.setdefault(sample.category, {"train": 0, "test_good": 0, "test_defect": 0})
        row["train" if sample.split == "train" else "test_defect" if sample.is_defect else "test_good"] += 1
    return table


def select_categories(root: Path, available: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """`wanted`, or all `available` if nothing is.  Raises DatasetError for a category that is not there."""
    unknown = [name for name in wanted if name not in available]
    if unknown:
        raise DatasetError(f"{root}: no category {', '.join(unknown)}; available: {', '.join(available)}")
    if len(set(wanted)) < len(wanted):
        raise DatasetError(f"{root}: the categories {', '.join(wanted)} name one twice: name each once")
    return list(wanted or available)


def read_json(path: Path) -> Any:
    """The content of an index file.  Raises DatasetError if it is missing or broken."""
    try:
        return json.loads(path.read_bytes())
    except RecursionError as error:
        raise DatasetError(f"{path}: is nested too deeply; unpack or download the file again") from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read as JSON ({error}); unpack or download the file again") from error


def listed_file(base: Path, name: str, index: Path, on_fault: OnFault) -> Path | None:
    """The file that `index` names by its path below `base`; None, after telling `on_fault`, if it is not there."""
    relative = PurePosixPath(name.replace("\\", "/"))  # an index written on Windows
    if relative.is_absolute() or ".." in relative.parts or PureWindowsPath(name).drive:
        on_fault(f"{index}: expected paths below {base}, got {name!r}; correct the index")
        return None
    path = base / relative
    if "\0" in name or not path.is_file():
        on_fault(f"{path}: no such file, but {index} lists it; unpack or download the data set again")
        return None
    return path


def checked_sample(sample: Sample, index: Path, *, needs_mask: bool, on_fault: OnFault) -> Sample:
    """A sample as an index states it, once `on_fault` knows what contradicts its split."""
    if sample.split == "train" and sample.is_defect:
        on_fault(
            f"{index}: {sample.image} is a training image marked as defective, but training takes good images only; "
            "take the index of the data set's unsupervised setting"
        )
    elif sample.is_defect and needs_mask and sample.mask is None:
        on_fault(f"{index}: {sample.image} is a defective image without a mask; correct or download the index again")
    return sample


def report_repeats(samples: list[Sample], index: Path, on_fault: OnFault) -> list[Sample]:
    """The samples, once `on_fault` knows every image that the index lists twice."""
    seen: set[Path] = set()
    for sample in samples:
        if sample.image in seen:
            on_fault(f"{index}: lists {sample.image} twice; correct or download the index again")
        seen.add(sample.image)
    return samples

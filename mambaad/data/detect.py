"""Where each data set comes from and how it lies on disk; which one a folder holds, or in one sentence why none."""

from __future__ import annotations

from pathlib import Path

from mambaad.data.datasets.catalog import DATASETS, MEDICAL, PAPER_DATASETS, dataset_named
from mambaad.data.datasets.coco_ad import ANNOTATIONS
from mambaad.data.datasets.mvtec_ad import images_in
from mambaad.data.datasets.real_iad import json_files
from mambaad.data.datasets.real_v1 import FOLDERS
from mambaad.data.datasets.spec import DatasetSpec
from mambaad.data.datasets.visa import TABLE
from mambaad.data.sample import DatasetError
from mambaad.data.synthetic.generate import SYNTHETIC_CATEGORIES

INNER = ("train", "test", "ground_truth")
"""Folders inside one category."""
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".xz", ".7z", ".bz2", ".rar")


def where(name: str | None = None) -> str:
    """The text of `mambaad data where` for one data set (its name, or "coco" for all splits of COCO-AD), or for all.

    Raises DatasetError for an unknown name; the message lists those known.
    """
    if name is None:
        specs = list(DATASETS.values())
    elif name in PAPER_DATASETS:
        specs = list(PAPER_DATASETS[name])
    else:
        specs = [dataset_named(name)]
    titles = dict.fromkeys(spec.title for spec in specs)
    return "\n\n".join(_describe([spec for spec in DATASETS.values() if spec.title == title]) for title in titles)


def _describe(specs: list[DatasetSpec]) -> str:
    """One data set; or splits of one, which differ in their counts only."""
    spec = specs[0]
    lines = [f"{', '.join(s.name for s in specs)}: {spec.title}", f"  licence  {spec.licence}"]
    lines += [f"  {what:6}   {text}" for what, text in (("page", spec.page), ("get it", spec.access)) if text]
    for one in specs:
        if one.total is not None:
            images = "{:,} for training, {:,} good and {:,} defective for the test".format(*one.total)
            lines.append(f"  images   {f'{one.name}: ' if len(specs) > 1 else ''}{images}")
    lines += [f"  note     {remark}" for remark in spec.remarks]
    lines += [f"  {'layout' if k == 0 else '':6}   {line}" for k, line in enumerate(spec.layout)]
    return "\n".join(lines)


def guess_layout(root: str | Path) -> str:
    """Name of the data set that lies in a folder, or of its layout.

    Raises DatasetError with the reason if there is none: the folder is missing, empty, one level too high or too deep,
    or an archive was not unpacked.
    """
    root = Path(root)
    name = _recognise(root) if root.is_dir() else None
    if name is None:
        raise DatasetError(f"{root}: not a data set{explain(root, None)}")
    return name


def explain(root: Path, name: str | None) -> str:
    """What is probably wrong with a folder that cannot be loaded as `name` (None: as anything); may be empty."""
    if root.is_file():
        archive = root.suffix.lower() in _ARCHIVES
        return "; it is an archive: unpack it and name the folder" if archive else "; it is a file: name a folder"
    if not root.is_dir():
        return "; there is no such folder: check the path"
    visible = sorted(path for path in root.iterdir() if not path.name.startswith("."))
    if not visible:
        return "; the folder is empty: unpack the data set into it"
    own = _recognise(root)
    if own is not None and name is not None and not _same(own, name):
        return f"; the folder looks like {own}: check it with --dataset {own}"
    deeper = next((p for p in visible if p.is_dir() and _fits(p, name)), None)
    if deeper is not None and own is None:
        return f"; the root is one level too high: name {deeper}"
    above = _above(root.resolve(), name, own)
    if above is not None:
        return f"; the root is too deep: name {above}"
    archives = [path.name for path in visible if path.suffix.lower() in _ARCHIVES]
    if archives:
        return f"; {', '.join(archives[:3])} still has to be unpacked"
    if own is not None:
        return ""
    other_case = next((path.name for path in visible if path.name.lower() == "train" != path.name), None)
    if other_case is not None:
        return f"; rename {other_case} to train, and what lies in it to good"
    if (root / "train").is_dir():
        return "; train/good holds no images: put photographs of good parts there"
    if images_in(root):
        return "; it holds images without folders: put good ones into train/good below it"
    return "; its folders fit no layout: compare with mambaad data where"


def _above(root: Path, name: str | None, own: str | None) -> Path | None:
    """The data set that a folder is only a part of: one of its inner folders, or one category of those asked for.

    A folder that merely lies beside others is no part of them, so it is never looked at from further up.
    """
    if own == "folder" and name is not None:
        return root.parent if _fits(root.parent, name) else None
    inner = next((path for path in (root, root.parent) if path.name in INNER), None)
    if own is not None or inner is None:
        return None
    whole = inner.parent
    if name is None:
        return whole if _recognise(whole) is not None else None
    return next((path for path in (whole, whole.parent) if _fits(path, name)), None)


def _fits(folder: Path, name: str | None) -> bool:
    found = _recognise(folder)
    return found is not None and (found != "folder" if name is None else _same(found, name))


def _same(found: str, name: str) -> bool:
    return found == name or (found.startswith("coco") and name.startswith("coco"))


def _recognise(root: Path) -> str | None:
    """The layout by the files that only it has; that of its authors before that of an index made from it."""
    own = _recognise_own(root)
    return "meta_json" if own in (None, "folder") and (root / "meta.json").is_file() else own


def _recognise_own(root: Path) -> str | None:
    if (root / TABLE).is_file():
        return "visa"
    if any((root / name).is_file() for name in ANNOTATIONS.values()):
        return "coco0"
    if all((root / folder / category / "train").is_dir() for category, folder in FOLDERS.items()):
        return "real_v1"
    if (root / "train").is_dir():
        return "folder" if images_in(root / "train" / "good") else None
    try:
        folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:  # a folder above the one named, closed to us
        return None
    indexes = json_files(root)
    if indexes and any((p / name).is_dir() for name in indexes for p in (root, *root.glob("realiad_*"))):
        return "realiad"
    if any((path / "train" / "good" / "rgb").is_dir() for path in folders):
        return "mvtec3d"
    names = {path.name for path in folders if (path / "train").is_dir()}
    if not names:
        return None
    if names <= set(MEDICAL.categories):
        return "medical"
    return "synthetic" if names <= set(SYNTHETIC_CATEGORIES) else "mvtec_ad"

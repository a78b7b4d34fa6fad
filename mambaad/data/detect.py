"""Where each data set comes from and how it lies on disk; which one a folder holds, or in one sentence why none."""

from __future__ import annotations

from pathlib import Path

from mambaad.data.datasets.catalog import SOURCES, Source
from mambaad.data.datasets.coco_ad import ANNOTATIONS
from mambaad.data.datasets.medical import CATEGORIES as MEDICAL
from mambaad.data.datasets.mvtec_ad import images_in
from mambaad.data.datasets.real_iad import json_files
from mambaad.data.datasets.visa import TABLE
from mambaad.data.sample import DatasetError
from mambaad.data.synthetic.generate import SYNTHETIC_CATEGORIES

_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".xz", ".7z", ".bz2", ".rar")
_OWN = {
    "synthetic": (
        "the synthetic set: four categories that the library draws itself",
        "part of this project (Apache License 2.0); nothing to download",
        ("<category>/train/good/000.png", "<category>/test/<defect>/000.png", "<category>/ground_truth/..."),
    ),
    "real_v1": (
        "five real categories of four data sets: what the evidence runs are made on",
        "bottle, screw: MVTec AD, CC BY-NC-SA 4.0; metal_plate: MPDD, CC BY-NC-SA 4.0; pcb: DeepPCB, MIT; glassfiber: "
        "states none",
        ("mvtec/{bottle,screw}/...", "other/{metal_plate,glassfiber,pcb}/...", "each category as in MVTec AD"),
    ),
    "folder": (
        "a plain folder of one's own images, one category",
        "yours; masks are optional",
        ("train/good/*", "test/{good,<defect>}/*", "ground_truth/<defect>/*"),
    ),
    "meta_json": (
        "any data set with the index meta.json of the later benchmark repository",
        "that of the data set",
        ("meta.json", "the images and masks that it names, below the same folder"),
    ),
}


def where(name: str | None = None) -> str:
    """The text of `mambaad data where` for one data set (a loader's name, or "coco" for all its splits), or for all.

    Raises DatasetError for an unknown name; the message lists those known.
    """
    if name is None:
        return "\n\n".join(where(known) for known in (*SOURCES, *_OWN))
    if name in _OWN:
        title, licence, layout = _OWN[name]
        return "\n".join([f"{name}: {title}", f"  licence  {licence}", *_layout(layout)])
    for key, source in SOURCES.items():
        if name == key or name in source.loaders:
            return _published(source)
    known = ", ".join((*(loader for source in SOURCES.values() for loader in source.loaders), "coco", *_OWN))
    raise DatasetError(f"no data set {name!r}; there are {known}")


def _published(source: Source) -> str:
    train, good, defective = source.total
    images = f"{train:,} for training, {good:,} good and {defective:,} defective for the test"
    if len(source.loaders) > 1:
        images = f"differ between its {len(source.loaders)} splits, see mambaad data check"
    return "\n".join(
        [
            f"{', '.join(source.loaders)}: {source.title}",
            f"  licence  {source.licence}",
            f"  page     {source.page}",
            f"  get it   {source.access}",
            f"  images   {images}",
            *(f"  note     {remark}" for remark in source.remarks),
            *_layout(source.layout),
        ]
    )


def _layout(lines: tuple[str, ...]) -> list[str]:
    return [f"  {'layout' if k == 0 else '':6}   {line}" for k, line in enumerate(lines)]


def guess_layout(root: str | Path) -> str:
    """Name of the loader for a folder.

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
    above = next((p for p in root.resolve().parents[:3] if _fits(p, name)), None)
    if above is not None and own in (None, "folder"):
        return f"; the root is too deep: name {above}"
    archives = [path.name for path in visible if path.suffix.lower() in _ARCHIVES]
    if archives:
        return f"; {', '.join(archives[:3])} still has to be unpacked"
    if own is None and images_in(root):
        return "; it holds images without folders: put good ones into train/good below it"
    return "" if own is not None else "; its folders fit no layout: compare with mambaad data where"


def _fits(folder: Path, name: str | None) -> bool:
    found = _recognise(folder)
    return found is not None and (found != "folder" if name is None else _same(found, name))


def _same(found: str, name: str) -> bool:
    return found == name or (found.startswith("coco") and name.startswith("coco"))


def _recognise(root: Path) -> str | None:
    """The layout by the files that only it has."""
    if (root / TABLE).is_file():
        return "visa"
    if (root / "meta.json").is_file():
        return "meta_json"
    if any((root / name).is_file() for name in ANNOTATIONS.values()):
        return "coco0"
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
    if names <= set(MEDICAL):
        return "medical"
    return "synthetic" if names <= set(SYNTHETIC_CATEGORIES) else "mvtec_ad"

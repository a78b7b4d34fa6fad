"""The images of a folder to predict: all below it, without masks and without what earlier calls wrote."""

from __future__ import annotations

from pathlib import Path

from mambaad.data import DatasetError
from mambaad.data.datasets.mvtec_ad import IMAGE_SUFFIXES


def find_images(path: str | Path, exclude: str | Path | None = None) -> list[Path]:
    """The image itself, or every image below a folder, sorted.

    Left out are hidden files, masks in folders named ground_truth, and what earlier calls wrote: into `exclude`, the
    output folder of this one, and into folders that hold their scores.csv.

    Raises DatasetError if there is none.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DatasetError(f"{path} does not exist: an image or a folder of images was expected")
    found = images_below(path, exclude)
    if not found:
        raise DatasetError(f"there is no image ({', '.join(IMAGE_SUFFIXES)}) below {path}")
    return found


def images_below(path: Path, exclude: str | Path | None = None) -> list[Path]:
    """The images that `find_images` finds below a folder; none is no error."""
    own: tuple[Path, ...] = ()
    if exclude is not None:
        # an output folder of its own is left out whole; one that holds the images, only what predict writes there
        out = Path(exclude).resolve()
        own = (out / "maps", out / "overlays") if path.resolve().is_relative_to(out) else (out,)
    others = {table.parent for table in path.rglob("scores.csv")}
    own += tuple((other / name).resolve() for other in others for name in ("maps", "overlays"))
    return sorted(
        p
        for p in path.rglob("*")
        if p.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") or part == "ground_truth" for part in p.relative_to(path).parts)
        and p.is_file()
        and not any(p.resolve().is_relative_to(folder) for folder in own)
    )

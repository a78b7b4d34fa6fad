"""The images of a folder to predict: all below it, without masks and without what earlier calls wrote."""

from __future__ import annotations

import os
from pathlib import Path

from mambaad.data import DatasetError
from mambaad.data.datasets.mvtec_ad import IMAGE_SUFFIXES


def find_images(path: str | Path, exclude: str | Path | None = None) -> list[Path]:
    """The image itself, or every image below a folder, sorted; links to folders are followed, each folder once.

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
    """The images that `find_images` finds below a folder; none is no error.

    Folders that go away meanwhile are no error either: whoever watches a folder shares it with others.
    """
    root = path.resolve()
    left_out: set[Path] = set()
    if exclude is not None:
        # an output folder of its own is left out whole; one that holds the images, only what predict writes there
        out = Path(exclude).resolve()
        left_out = {out / "maps", out / "overlays"} if root.is_relative_to(out) else {out}
    seen = {root}
    """Folders by their real paths, so that links that lead in circles end."""

    def to_enter(folder: Path) -> bool:
        if folder.name.startswith(".") or folder.name == "ground_truth":
            return False
        real = folder.resolve()
        if not left_out.isdisjoint((real, *real.parents)):
            return False
        if folder.is_symlink():
            inside = real.relative_to(root).parts if real.is_relative_to(root) else None
            met = inside is not None and not any(part.startswith(".") for part in inside)  # under its own name
            if met or "ground_truth" in real.parts:
                return False
        if real in seen:
            return False
        seen.add(real)
        return True

    found: list[Path] = []
    if left_out.isdisjoint((root, *root.parents)):
        for name, folders, files in os.walk(path, followlinks=True):
            here = Path(name)
            if "scores.csv" in files:
                left_out |= {(here / own).resolve() for own in ("maps", "overlays")}
            folders[:] = [folder for folder in sorted(folders) if to_enter(here / folder)]
            images = (here / file for file in files if not file.startswith("."))
            found += [image for image in images if image.suffix.lower() in IMAGE_SUFFIXES and image.is_file()]
    return sorted(found)

"""What is said of a data set: its names, its counts, its licence and the loader of its layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import cast

from mambaad.data.sample import Loader, OnFault, Sample, raise_fault

Counts = tuple[int, int, int]
"""Images for training, good ones of the test, defective ones of the test."""


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """One data set: what a run can be made on."""

    name: str
    """As in run settings, in records and on the command line."""
    title: str
    loader: str
    """Module and function (``module:function``) in `mambaad.data.datasets`, imported at first use: a list of data sets
    needs no arrays."""
    licence: str
    layout: tuple[str, ...]
    """The folders and files that the root holds after unpacking."""
    categories: Mapping[str, Counts | None] = field(default_factory=dict)
    """Published counts of each category; None where they are not known for certain. Empty for one's own images."""
    total: Counts | None = None
    """Published counts of the whole; None for one's own images."""
    page: str = ""
    """The authors' own page."""
    access: str = ""
    """What has to be done to get it; nothing of it is automated."""
    remarks: tuple[str, ...] = ()
    upright: bool = True
    """Whether images and masks are turned as EXIF says. Not where the authors' masks lie on the pixels as stored, which
    the published code reads. MVTec AD's own files have no EXIF data, and its layout serves for one's own images."""
    paper_name: str = ""
    """Its name in `results/paper`; empty if the paper does not have it."""
    paper_title: str = ""
    """Its name as the paper prints it."""
    paper_category: str = "mean"
    """The category of `results/paper` that is about all of it: a number for the splits of COCO-AD."""
    weights: str = ""
    """The published checkpoint's path in the authors' repository; a folder, with "/" at the end, where the name of the
    file is not known; empty if there is none."""

    def find_loader(self) -> Loader:
        """The function that reads it from disk."""
        module, _, function = self.loader.partition(":")
        return cast(Loader, getattr(import_module(f"mambaad.data.datasets.{module}"), function))

    def load(self, root: str | Path, categories: Sequence[str] = (), on_fault: OnFault = raise_fault) -> list[Sample]:
        """Its samples below `root`: of the named categories, in that order, or of all; faults of single files go to
        `on_fault`.

        Raises DatasetError as its loader does.
        """
        samples = self.find_loader()(root, categories, on_fault)
        return samples if self.upright else [replace(sample, upright=False) for sample in samples]

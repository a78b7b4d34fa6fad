"""Five real categories of four data sets, side by side: what the evidence runs train on, one model for all.

    <root>/mvtec/{bottle,screw}                       MVTec AD
    <root>/other/{metal_plate,glassfiber,pcb}         MPDD; woven glass fibre; DeepPCB

Each category lies in the layout of MVTec AD.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mambaad.data.datasets.mvtec_ad import load_mvtec_ad
from mambaad.data.sample import DatasetError, OnFault, Sample, raise_fault, select_categories

FOLDERS = {"bottle": "mvtec", "screw": "mvtec", "metal_plate": "other", "glassfiber": "other", "pcb": "other"}
"""Folder of each category below the root, in the order of the protocol."""


def load_real_v1(root: str | Path, categories: Sequence[str] = (), on_fault: OnFault = raise_fault, /) -> list[Sample]:
    """The samples of the named categories, or of all five, in the protocol's order.

    Raises DatasetError as `load_mvtec_ad` does, and for a root without the folders mvtec and other.
    """
    root = Path(root)
    for folder in dict.fromkeys(FOLDERS.values()):
        if not (root / folder).is_dir():
            raise DatasetError(f"{root / folder}: no such folder, expected mvtec/ and other/ below the root (real_v1)")
    chosen = select_categories(root, list(FOLDERS), categories)
    return [sample for name in chosen for sample in load_mvtec_ad(root / FOLDERS[name], (name,), on_fault)]

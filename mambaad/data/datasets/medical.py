"""Uni-Medical: slices of brain and liver and retinal scans in MVTec AD layout.

    <root>/{brain,liver,retinal}/train/good/...
    <root>/{brain,liver,retinal}/test/{good,<defect>}/...
    <root>/{brain,liver,retinal}/ground_truth/<defect>/...

Masks that do not have their images' names are paired with them by position in the order of names, as the published code
does.

Source: Zhang et al., "Exploring Plain ViT Reconstruction for Multi-class Unsupervised Anomaly Detection", 2023; the
images are those of Bao et al., "BMAD: Benchmarks for Medical Anomaly Detection", 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mambaad.data.datasets.catalog import MEDICAL
from mambaad.data.datasets.mvtec_ad import load_category
from mambaad.data.sample import DatasetError, OnFault, Sample, raise_fault, select_categories

CATEGORIES = tuple(MEDICAL.categories)


def load_medical(root: str | Path, categories: Sequence[str] = (), on_fault: OnFault = raise_fault, /) -> list[Sample]:
    """The samples of the named categories, or of those of the three that are there.

    Raises DatasetError as `load_mvtec_ad` does; sizes of masks are left to `mambaad data check`.
    """
    root = Path(root)
    available = [name for name in CATEGORIES if (root / name / "train").is_dir()]
    if not available:
        raise DatasetError(
            f"{root}: expected the folders {', '.join(CATEGORIES)} with train/good in each (Uni-Medical), found none; "
            "name the folder that holds them"
        )
    chosen = select_categories(root, available, categories)
    return [
        s for name in chosen for s in load_category(root / name, name, sizes=False, by_position=True, on_fault=on_fault)
    ]

"""Images in, tensors out.  Reading order: sample, transforms, mvtec_ad, folder, the other loaders (visa, real_iad,
mvtec3d, medical, coco_ad, meta_json), synthetic, image_set, image_cache; check, where and sources stand on all of them.

Every loader takes a root folder and the categories wanted and returns a list of `Sample`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from .coco_ad import SPLITS, load_coco_ad
from .contact_sheet import contact_sheet
from .folder import load_folder
from .image_cache import default_cache_dir, open_image_cache
from .image_set import ImageSet
from .medical import load_medical
from .meta_json import load_meta_json
from .mvtec3d import load_mvtec3d
from .mvtec_ad import load_mvtec_ad
from .real_iad import load_real_iad
from .row_store import CacheError
from .sample import DatasetError, Loader, Sample, counts, index_hash
from .synthetic import SYNTHETIC_CATEGORIES, write_synthetic
from .transforms import load_image, load_mask
from .visa import load_visa

__all__ = [
    "DATASETS",
    "SYNTHETIC_CATEGORIES",
    "CacheError",
    "DatasetError",
    "ImageSet",
    "Sample",
    "contact_sheet",
    "counts",
    "default_cache_dir",
    "index_hash",
    "load_dataset",
    "load_folder",
    "load_image",
    "load_mask",
    "load_mvtec_ad",
    "open_image_cache",
    "write_synthetic",
]

DATASETS: dict[str, Loader] = {
    "synthetic": load_mvtec_ad,
    "mvtec_ad": load_mvtec_ad,
    "visa": load_visa,
    "realiad": load_real_iad,
    "medical": load_medical,
    "mvtec3d": load_mvtec3d,
    **{f"coco{split}": partial(load_coco_ad, split) for split in range(SPLITS)},
    "folder": load_folder,
    "meta_json": load_meta_json,
}
"""The loaders by name."""


def load_dataset(name: str, root: str | Path, categories: Sequence[str] = ()) -> list[Sample]:
    """The samples of a data set on disk.  Raises DatasetError for an unknown `name` and as its loader does."""
    if name not in DATASETS:
        raise DatasetError(f"no data set layout {name!r}; available: {', '.join(DATASETS)}")
    return DATASETS[name](root, categories)

"""Images in, tensors out.  Reading order: sample, pixels, transforms, datasets, synthetic, image_set, image_cache,
validate, detect.

Every loader takes a root folder and the categories wanted and returns a list of `Sample`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambaad.data.contact_sheet import contact_sheet
from mambaad.data.datasets.coco_ad import SPLITS, load_coco_ad
from mambaad.data.datasets.folder import load_folder
from mambaad.data.datasets.medical import load_medical
from mambaad.data.datasets.meta_json import load_meta_json
from mambaad.data.datasets.mvtec3d import load_mvtec3d
from mambaad.data.datasets.mvtec_ad import load_mvtec_ad
from mambaad.data.datasets.real_iad import load_real_iad
from mambaad.data.datasets.real_v1 import load_real_v1
from mambaad.data.datasets.visa import load_visa
from mambaad.data.image_cache import default_cache_dir, open_image_cache
from mambaad.data.row_store import CacheError
from mambaad.data.sample import DatasetError, Loader, Sample, counts, index_hash
from mambaad.data.synthetic.generate import SYNTHETIC_CATEGORIES, write_synthetic

if TYPE_CHECKING:
    from mambaad.data.image_set import ImageSet
    from mambaad.data.transforms import load_image, load_mask

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

_TENSORS = {"ImageSet": "image_set", "load_image": "transforms", "load_mask": "transforms"}


def __getattr__(name: str) -> Any:
    """What makes tensors is imported at first use: whoever lists or validates data sets need not wait for torch."""
    if name not in _TENSORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_TENSORS[name]}"), name)


DATASETS: dict[str, Loader] = {
    "synthetic": load_mvtec_ad,
    "mvtec_ad": load_mvtec_ad,
    "visa": load_visa,
    "realiad": load_real_iad,
    "medical": load_medical,
    "mvtec3d": load_mvtec3d,
    **{f"coco{split}": partial(load_coco_ad, split) for split in range(SPLITS)},
    "real_v1": load_real_v1,
    "folder": load_folder,
    "meta_json": load_meta_json,
}
"""The loaders by name."""


def load_dataset(name: str, root: str | Path, categories: Sequence[str] = ()) -> list[Sample]:
    """The samples of a data set on disk.  Raises DatasetError for an unknown `name` and as its loader does."""
    if name not in DATASETS:
        raise DatasetError(f"no data set layout {name!r}; available: {', '.join(DATASETS)}")
    return DATASETS[name](root, categories)

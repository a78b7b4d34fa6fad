"""Images in, tensors out.  Reading order: sample, contents, pixels, transforms, datasets, synthetic, image_set,
image_cache, validate, detect.

Every loader takes a root folder and the categories wanted and returns a list of `Sample`. What needs arrays or tensors
is imported from its own module: naming a data set or listing its samples does not wait for them.
"""

from __future__ import annotations

from mambaad.data.datasets.catalog import DATASETS, load_dataset
from mambaad.data.datasets.spec import DatasetSpec
from mambaad.data.sample import DatasetError, Sample, counts, index_hash

__all__ = [
    "DATASETS",
    "DatasetError",
    "DatasetSpec",
    "Sample",
    "counts",
    "index_hash",
    "load_dataset",
]

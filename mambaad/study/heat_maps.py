"""Anomaly maps of one synthetic defect by every method side by side, from the checkpoints of the quick profile."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from mambaad.baselines import load_method
from mambaad.data import Sample, load_dataset
from mambaad.data.pixels import read_rgb, resize_rgb
from mambaad.data.synthetic.generate import write_synthetic
from mambaad.data.transforms import load_mask, normalise
from mambaad.engine.result import CHECKPOINT
from mambaad.study import figures
from mambaad.study.profiles import quick_base, quick_methods
from mambaad.study.tables_spec import MEASURED_TITLES

COLUMNS = 4


def checkpoints(outputs: str | Path) -> dict[str, Path]:
    """The quick profile's checkpoints that lie in a run folder, by the method's title."""
    runs = {"mambaad": quick_base()} | quick_methods()
    places = {name: Path(outputs) / "runs" / f"quick_{run.hash}" / CHECKPOINT for name, run in runs.items()}
    return {MEASURED_TITLES[name]: place for name, place in places.items() if place.is_file()}


def largest_defect(samples: list[Sample], side: int) -> Sample:
    """The test image with the largest mask, the first of equals."""
    defects = [sample for sample in samples if sample.split == "test" and sample.mask is not None]
    return max(defects, key=lambda sample: int(load_mask(str(sample.mask), side).sum()))


def heat_maps(outputs: str | Path, category: str) -> Figure | None:
    """The image, its mask, and the map of every method whose checkpoint is there; None if there is none.

    Each map has a colour scale of its own, from its least to its largest value: the methods' scores have no common
    unit.

    Args:
        outputs: folder with `runs/`.
        category: of the synthetic set, whose largest defect is shown.
    """
    found = checkpoints(outputs)
    if not found:
        return None
    data = quick_base().data
    with TemporaryDirectory() as folder:
        root = write_synthetic(
            Path(folder) / "images",
            side=data.side,
            seed=data.synthetic_seed,
            train=data.synthetic_train,
            test=data.synthetic_test,
            categories=(category,),
        )
        sample = largest_defect(load_dataset(data.dataset, root), data.side)
        pixels = resize_rgb(read_rgb(sample.image), data.side)
        panels: dict[str, np.ndarray] = {"image": pixels, "defect": load_mask(str(sample.mask), data.side).numpy()}
    for title, path in found.items():
        model = load_method(path)
        images = normalise(pixels, model.config.mean, model.config.std)[None]
        panels[title] = model.predict(images).anomaly_map[0].numpy()
    rows = -(-len(panels) // COLUMNS)
    with plt.rc_context(figures.STYLE):
        figure, axes = plt.subplots(rows, COLUMNS, figsize=(figures.WIDTH, 1.7 * rows), layout="constrained")
    for ax, (title, values) in zip(axes.flat, panels.items(), strict=False):
        ax.imshow(values, cmap={"image": None, "defect": "gray"}.get(title, "inferno"))
        ax.set_title(title)
    for ax in axes.flat:
        ax.set_axis_off()
    plt.close(figure)
    return figure

"""Two interactive figures: a gallery with the map of every stride, and one image through the steps of a training.

Their scripts are `book/extra/live/map-gallery.js` and `training-steps.js`.  Without them every picture and every number
is on the page all the same, in rows.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from IPython.display import HTML
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from mambaad.inference.gallery import colour_scale, overlay
from mambaad.inference.pages import data_uri
from mambaad.model import MambaAD
from mambaad.study.compare import outlined
from mambaad.study.page_figures import live
from mambaad.study.training_maps import Seen, stride_distances, summed

MAPS = ("stride 4", "stride 8", "stride 16", "sum, smoothed")
SIDE = 208
"""Side of a stored picture in pixels."""


@dataclass(frozen=True)
class Case:
    """One image, what the network makes of it, and whether that is right."""

    name: str
    image: Float[Tensor, "3 S S"]
    """In 0..1."""
    mask: Bool[Tensor, "S S"]
    """Where the defect is; nowhere in a good image."""
    maps: tuple[Float[Tensor, "s s"], ...]
    """The distance at each stride, and the anomaly map: one for each of `MAPS`."""

    @property
    def peaks(self) -> list[float]:
        """The largest value of each map; the last one is the image's score."""
        return [float(one.max()) for one in self.maps]

    def verdict(self, threshold: float) -> str:
        """What a threshold on the score makes of it."""
        called, defective = self.peaks[-1] > threshold, bool(self.mask.any())
        return {
            (True, True): "found",
            (False, True): "missed",
            (True, False): "false alarm",
            (False, False): "rightly passed",
        }[called, defective]


def cases_of(
    model: MambaAD, names: Sequence[str], images: Float[Tensor, "B 3 S S"], masks: Bool[Tensor, "B S S"]
) -> list[Case]:
    """Send images, values in 0..1, through the network, which must be in eval mode."""
    with torch.no_grad():
        distances = stride_distances(*model(model.normalize(images)))
    found = []
    for place, name in enumerate(names):
        own = [d[place] for d in distances]
        found.append(Case(name, images[place], masks[place], (*own, summed(own, images.shape[-1])[1])))
    return found


def thresholds_of(good: Sequence[Case], allowed: float) -> list[float]:
    """One threshold for each map: a share of at most `allowed` of these good images has a larger peak."""
    return torch.tensor([case.peaks for case in good]).quantile(1 - allowed, dim=0).tolist()


def failures_first(cases: Sequence[Case], threshold: float, failures: int = 6) -> list[Case]:
    """The worst errors first, then of each kind of part the defect that stands out most.

    The name of a case begins with the part's name, up to a comma.
    """
    wrong = [case for case in cases if case.verdict(threshold) in ("missed", "false alarm")]
    wrong.sort(key=lambda case: -abs(case.peaks[-1] - threshold))
    best: dict[str, Case] = {}
    for case in sorted(cases, key=lambda case: -case.peaks[-1]):
        if case.mask.any() and case.verdict(threshold) == "found":
            best.setdefault(case.name.partition(",")[0], case)
    return [*wrong[:failures], *best.values()]


def gallery(cases: Sequence[Case], thresholds: Sequence[float], caption: str) -> HTML:
    """The gallery: choose an image and a map, move the divider between them.

    Args:
        thresholds: of each map; half of it is bare, half as much again is full colour.
    """
    rows, told = [], []
    for case in cases:
        image = _picture(case.image)
        shown = [
            (
                f"{case.name}: the image{', defect outlined' * bool(_mask(case).any())}",
                Image.fromarray(outlined(np.asarray(image), _mask(case))),
            )
        ]
        for name, values, threshold, peak in zip(MAPS, case.maps, thresholds, case.peaks, strict=True):
            words = f"{case.name}: map, {name}, largest value {peak:.2f}"
            shown.append((words, overlay(image, values.numpy(), *colour_scale([], threshold))))
        verdict = case.verdict(thresholds[-1])
        rows.append(_row(shown, f"{case.name}: {verdict}, score {case.peaks[-1]:.3f}."))
        told.append({"name": case.name, "verdict": verdict, "peaks": [round(peak, 3) for peak in case.peaks]})
    data = {"maps": MAPS, "thresholds": [round(value, 3) for value in thresholds], "cases": told}
    return live("map-gallery", still=f'<div class="strips">{"".join(rows)}</div>', alt="", caption=caption, data=data)


def training_strip(
    seen: Sequence[Seen], image: Float[Tensor, "3 S S"], twin: Float[Tensor, "3 S S"], threshold: float, caption: str
) -> HTML:
    """The scrubber: what the network sees in an image, and in its good twin, after each of some steps."""
    rows, told = [], []
    scale = colour_scale([], threshold)
    for one in seen:
        shown = []
        for name, words, picture in (("image", "defective image", image), ("twin", "good twin", twin)):
            values = one.anomaly_map(name, picture.shape[-1]).numpy()
            text = f"{words} with its map after {one.step} steps, score {one.scores[name]:.3f}"
            shown.append((text, overlay(_picture(picture), values, *scale)))
        rows.append(_row(shown, f"Step {one.step}: {one.scores['image']:.3f}; good twin {one.scores['twin']:.3f}."))
        told.append([one.step, round(one.scores["image"], 3), round(one.scores["twin"], 3)])
    still = f'<div class="strips pairs">{"".join(rows)}</div>'
    return live("training-steps", still=still, alt="", caption=caption, data=told)


def _picture(image: Float[Tensor, "3 S S"]) -> Image.Image:
    small = Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())
    return small.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def _mask(case: Case) -> np.ndarray:
    return np.asarray(case.mask.numpy(), dtype=bool)


def _row(pictures: Sequence[tuple[str, Image.Image]], words: str) -> str:
    drawn = "".join(
        f'<img src="{data_uri(picture, "WEBP")}" width="{SIDE}" height="{SIDE}" alt="{html.escape(alt, quote=True)}">'
        for alt, picture in pictures
    )
    return f'<div class="strip"><div>{drawn}</div><p>{html.escape(words)}</p></div>'

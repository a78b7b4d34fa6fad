"""Images compared with their anomaly maps: the front page's example, and the cases of the evidence page.

The divider between the two is the one of the reports and galleries (`mambaad.inference.pages`); of several images
`book/_static/compare.js` shows the one that is chosen.  Without a script all stand there, image and map side by side.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mambaad.inference import pages
from mambaad.inference.gallery import colour_scale, overlay
from mambaad.study.page_figures import captioned

SHOWN = 384
"""Side of the pictures in pixels."""
HINT = "Drag across a picture, or focus it and use the arrow keys, to compare image and map."


@dataclass(frozen=True)
class Case:
    """One image as a page shows it."""

    name: str
    """What it shows, such as "gear, scratch"."""
    image: NDArray[np.uint8]
    """RGB (H, W, 3)."""
    anomaly_map: NDArray[np.float32]
    """(h, w), of any size."""
    mask: NDArray[np.bool_]
    """(H, W), where the defect is; nowhere in a good image."""
    score: float
    words: str = ""
    """What is to be seen in it."""


def compare(
    cases: Sequence[Case],
    caption: str,
    *,
    scale: tuple[float, float] | None = None,
    side: int = SHOWN,
    hint: bool = True,
) -> str:
    """A figure of one or several cases, as HTML; all maps share one colour scale.

    Args:
        scale: of the maps, from clear to full colour; default: from the cases' scores.
        side: of the pictures, in pixels.
        hint: whether the caption says how to move the divider: once on a page is enough.

    Raises:
        ValueError: there is no case.
    """
    if not cases:
        raise ValueError("expected at least one image to compare with its map, got none")
    low, high = scale or colour_scale([case.score for case in cases])
    body = "".join(_case(case, low, high, side) for case in cases)
    names = "".join(f'<button type="button">{html.escape(case.name)}</button>' for case in cases)
    figure = captioned(
        f'<div class="choices" role="group" aria-label="Example" hidden>{names if len(cases) > 1 else ""}</div>'
        f'<div class="cases">{body}</div>',
        caption + (f" {HINT}" if hint else ""),
    )
    return str(figure.data).replace('class="plot"', 'class="plot compare"', 1)


def _case(case: Case, low: float, high: float, side: int) -> str:
    image = Image.fromarray(case.image).resize((side, side), Image.Resampling.BICUBIC)
    heat = overlay(image, case.anomaly_map, low, high)
    marked = Image.fromarray(outlined(np.asarray(image), case.mask))
    defect = "its defect outlined" if case.mask.any() else "a good part"
    pictures = pages.compare(marked, heat, f"{case.name}, {defect}", side=side, at=_middle(case.mask), form="WEBP")
    return (
        f'<div class="case">{pictures}'
        f"<p><strong>{html.escape(case.name)}</strong>, score {case.score:.2f}. {html.escape(case.words)}</p></div>"
    )


def _middle(mask: NDArray[np.bool_]) -> int:
    """Where the divider begins, in percent: in the middle of the defect."""
    return round(100 * float(np.mean(np.nonzero(mask)[1])) / mask.shape[1]) if mask.any() else 50


def outlined(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The image with the mask's outline in white over black, two pixels wide, legible on any ground."""
    large = np.asarray(Image.fromarray(mask).resize(image.shape[1::-1], Image.Resampling.NEAREST))
    drawn = image.copy()
    for reach, colour in ((4, 0), (2, 255)):
        grown = _grown(large, reach + 1) & ~_grown(large, 1 if reach == 2 else 0)
        drawn[grown] = colour
    return drawn


def _grown(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    if not reach:
        return mask
    pooled = torch.nn.functional.max_pool2d(
        torch.from_numpy(mask.copy())[None].float(), 2 * reach + 1, stride=1, padding=reach
    )
    return np.asarray(pooled[0].numpy() > 0)

"""What this project's HTML pages share: one file without requests, pictures inside it, two small components.

The components' style and script are `mambaad/assets/viewer.css` and `viewer.js`; what they enhance is made here, and is
complete without a script.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from mambaad.baselines import CLASSES
from mambaad.config import method_of

Form = Literal["JPEG", "WEBP"]
TITLES = {"memory_bank": "Memory bank", "mambaad_bank": "MambaAD and memory bank"}
"""Methods that are called otherwise than their class."""
ASSETS = Path(__file__).resolve().parents[1] / "assets"
BINS = 48
_BAR, _TALL = 10, 60  # of a histogram's bar, in the units of its picture


def method_title(config: Any) -> str:
    """What the method of a network's settings is called."""
    method = method_of(config)
    return TITLES.get(method, CLASSES[method][1])


def asset(name: str) -> str:
    """The text of a style or script that comes with the package."""
    return (ASSETS / name).read_text(encoding="utf-8")


def head(title: str, style: str = "", allow: str = "") -> str:
    """The start of a page up to `<main>`: nothing may be loaded but what the page itself holds.

    Args:
        style: CSS of this page, after that of the components.
        allow: further directives of the content security policy, for a page that asks its own server.
    """
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy"
content="default-src 'none';img-src data:;style-src 'unsafe-inline';script-src 'unsafe-inline'{allow}">
<title>{html.escape(title)}</title><style>{asset("viewer.css")}{style}</style></head>
<body><main>
"""


def foot(script: str = "") -> str:
    """The end of a page: the components' script, then the page's own."""
    return f"</main><script>{asset('viewer.js')}{script}</script></body></html>\n"


def thumbnail(image: Image.Image, side: int) -> Image.Image:
    """A copy whose long side is `side` pixels at most."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.BILINEAR)
    return small


def data_uri(image: Image.Image, form: Form = "JPEG", quality: int = 82) -> str:
    """An image as a file inside a URI; WEBP is smaller and takes longer to write."""
    buffer = io.BytesIO()
    image.save(buffer, form, quality=quality)
    return f"data:image/{form.lower()};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def compare(image: Image.Image, mixed: Image.Image, name: str, *, side: int, at: int = 50, form: Form = "JPEG") -> str:
    """An image and the same with its map, with a divider to move between them.

    Args:
        name: for readers who do not see it.
        side: the long side of both pictures in pixels, at most.
        at: where the divider starts, in percent from the left; the image is left of it.
        form: of the two files.
    """
    pictures = []
    for picture, text in ((image, name), (mixed, f"{name} with its anomaly map")):
        small = thumbnail(picture, side)
        pictures.append(
            f'<img width="{small.width}" height="{small.height}" alt="{html.escape(text, quote=True)}" '
            f'src="{data_uri(small, form)}">'
        )
    return f'<div class="mb-compare" data-at="{at}">{"".join(pictures)}</div>'


def score_range(groups: Sequence[Sequence[float]], threshold: float | None = None) -> tuple[float, float]:
    """From the lowest to the highest of all scores and the threshold, never empty."""
    values = [score for group in groups for score in group] + ([] if threshold is None else [threshold])
    low = min(values)
    return low, max(max(values), low + max(1e-6 * abs(low), 1e-9))


def histogram(
    groups: Sequence[Sequence[float]], threshold: float | None = None, label: str = "histogram of the scores"
) -> str:
    """The distribution of scores as inline SVG: one group upwards, a second one downwards; the threshold as a line.

    The line has the class `mb-line` and its ends as data, so that `viewer.js` can move it.
    """
    low, high = score_range(groups, threshold)
    bars = []
    for group, css in zip(groups, ("mb-good", "mb-defective"), strict=False):
        counts, _ = np.histogram(group, bins=BINS, range=(low, high))
        tall = _TALL * counts / max(counts.max(), 1)
        bars += [
            f'<rect class="{css}" x="{i * _BAR}" y="{_TALL - h if css == "mb-good" else _TALL:.1f}" '
            f'width="{_BAR - 1}" height="{h:.1f}"/>'
            for i, h in enumerate(tall)
            if h
        ]
    height = _TALL * len(groups)
    zero = f'<path class="mb-zero" d="M0 {_TALL}H{BINS * _BAR}"/>'
    line = ""
    if threshold is not None:
        x = (threshold - low) / (high - low) * BINS * _BAR
        line = (
            f'<line class="mb-line" data-low="{low:.9g}" data-high="{high:.9g}" '
            f'x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height}"/>'
        )
    return (
        f'<figure class="mb-bars"><svg viewBox="0 0 {BINS * _BAR} {height}" preserveAspectRatio="none" '
        f'style="height:{height}px" role="img" aria-label="{html.escape(label, quote=True)}">'
        f'{"".join(bars)}{zero}{line}</svg><figcaption class="mb-axis"><span>{low:.4g}</span><span>score</span>'
        f"<span>{high:.4g}</span></figcaption></figure>"
    )

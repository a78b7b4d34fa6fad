"""Curves as small inline pictures (SVG) with a point that `mambaad/assets/viewer.js` moves."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mambaad.inference.curves import Curves

PRO_LIMIT = 0.3  # where AU-PRO ends (Bergmann et al.)

Named = tuple[str, str, str, str, str, float]
"""Title, label and column of x, label and column of y, right end of the x axis."""
IMAGE_CHARTS: tuple[Named, ...] = (
    ("Images: recall (ROC)", "false-positive rate", "image_fpr", "recall", "image_recall", 1.0),
    ("Images: precision", "recall", "image_recall", "precision", "image_precision", 1.0),
)
PIXEL_CHARTS: tuple[Named, ...] = (
    ("Pixels: recall (ROC)", "false-positive rate", "pixel_fpr", "recall", "pixel_recall", 1.0),
    ("Pixels: precision", "recall", "pixel_recall", "precision", "pixel_precision", 1.0),
    ("Regions: overlap (PRO)", "false-positive rate", "pixel_fpr", "overlap", "pixel_overlap", PRO_LIMIT),
)


def image_charts(c: Curves, row: int) -> list[str]:
    """The two charts of whole images, with the point of one threshold."""
    return [chart(c, row, *named) for named in IMAGE_CHARTS]


def chart(
    c: Curves, row: int, title: str, x_label: str, x_column: str, y_label: str, y_column: str, x_max: float
) -> str:
    """One curve, both axes from 0, y up to 1; the point is that of the threshold in `row`."""
    x, y = getattr(c, x_column), getattr(c, y_column)
    at_x, at_y = float(x[row]), float(y[row])
    hidden = "" if at_x <= x_max and not math.isnan(at_y) else ' style="display:none"'
    place = (
        "" if math.isnan(at_x) or math.isnan(at_y) else f' cx="{100 * at_x / x_max:.2f}" cy="{100 - 100 * at_y:.2f}"'
    )
    grid = "".join(f'<path class="mb-grid" d="M0 {k}H100M{k} 0V100"/>' for k in (25, 50, 75))
    label = f"{title}: {y_label} over {x_label}, from 0 to {x_max:g}"
    return (
        f'<figure class="mb-chart"><figcaption>{title}</figcaption>'
        f'<svg viewBox="0 0 100 100" role="img" aria-label="{label}">{grid}'
        f'<path class="mb-frame" d="M0 0H100V100H0Z"/><path class="mb-path" d="{_path(x / x_max, y)}"/>'
        f'<circle class="mb-dot" r="3.2" data-x="{x_column}" data-y="{y_column}" data-xmax="{x_max:g}"{place}{hidden}/>'
        f'</svg><div class="mb-axis"><span>0</span><span>{x_label}</span><span>{x_max:g}</span></div></figure>'
    )


def _path(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    """The curve up to x = 1, in a picture of 100 by 100."""
    fine = np.isfinite(x) & np.isfinite(y)
    x, y = x[fine], y[fine]
    order = np.lexsort((y, x)) if x.size and x[0] <= x[-1] else np.lexsort((-y, -x))[::-1]
    x, y = x[order], y[order]
    inside = x <= 1
    if not inside.all() and inside.any():  # cut at the right edge
        end = float(np.interp(1.0, x, y))
        x, y = np.append(x[inside], 1.0), np.append(y[inside], end)
    points = [f"{100 * a:.1f} {100 - 100 * b:.1f}" for a, b in zip(x, y, strict=True)]
    return "M" + "L".join(dict.fromkeys(points)) if points else ""


def loss_chart(loss: Sequence[Sequence[float]]) -> str:
    """The loss over the steps; on a logarithmic axis where it falls to less than a twentieth."""
    steps, values = (np.array([point[i] for point in loss], dtype=float) for i in range(2))
    low, high = float(values.min()), float(values.max())
    log = low > 0 and high > 20 * low
    scaled = np.log(values) if log else values
    base = float(scaled.min()) if log else min(low, 0.0)
    span = max(float(scaled.max()) - base, 1e-12)
    x = 1000 * (steps - steps[0]) / max(steps[-1] - steps[0], 1)
    points = [f"{a:.1f} {180 - 170 * (b - base) / span:.1f}" for a, b in zip(x, scaled, strict=True)]
    bottom = f"{low:.4g}" if log else f"{base:.4g}"
    return (
        f'<figure class="mb-bars loss"><figcaption class="mb-axis"><span>{high:.4g}</span></figcaption>'
        f'<svg viewBox="0 0 1000 180" preserveAspectRatio="none" style="height:180px" role="img" '
        f'aria-label="loss over steps, from {values[0]:.4g} to {values[-1]:.4g}">'
        f'<path class="mb-frame" d="M0 0V180H1000"/><path class="mb-path" d="M{"L".join(points)}"/></svg>'
        f'<figcaption class="mb-axis"><span>{bottom}{", logarithmic axis" if log else ""}</span>'
        f"<span>step {steps[-1]:.0f}</span></figcaption></figure>"
    )

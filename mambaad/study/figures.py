"""Figures of the table notebooks, in the style of `mambaad.study.page_figures`, whose `plot` puts them on a page.

Every function returns a matplotlib Figure that is closed for pyplot, so that a notebook shows it once.
Published values and ours are drawn in panels of their own wherever they are about different data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mambaad.study.audit.checks import ap_limit
from mambaad.study.page_figures import (
    BLUE,
    GREEN,
    GREY,
    INK,
    METHODS,
    ORANGE,
    OURS,
    PAPER,
    PINK,
    SKY,
    STYLE,
    WIDTH,
    YELLOW,
)
from mambaad.study.published_numbers import DATASET_NAMES, METRIC_NAMES, UNITS
from mambaad.study.tables_spec import TABLE_6

PALETTE = (BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, INK)


def _figure(columns: int = 1, height: float = 3.2, **options: Any) -> tuple[Figure, list[Axes]]:
    with plt.rc_context({**STYLE, "axes.grid": True}):
        figure, axes = plt.subplots(1, columns, figsize=(WIDTH, height), squeeze=False, **options)
    plt.close(figure)
    return figure, list(axes[0])


def categories(frame: pd.DataFrame, metrics: Sequence[str] = ("image_auroc", "pixel_auroc", "pixel_aupro")) -> Figure:
    """Per category, ours with one colour per metric; published values of the same categories as rings, if any.

    Args:
        frame: lines of table 1 with values of ours (`table_view.means_and_categories`).
    """
    measured = frame[frame["ours"].notna()]
    names = list(dict.fromkeys(measured["category"]))
    figure, (ax,) = _figure(height=1.4 + 0.3 * max(len(names), 1))
    for shift, (metric, colour) in enumerate(zip(metrics, PALETTE, strict=False)):
        lines = measured[measured["metric"] == metric].set_index("category").reindex(names)
        y = -np.arange(len(names)) - 0.18 * (shift - (len(metrics) - 1) / 2)
        ax.scatter(lines["ours"], y, color=colour, label=METRIC_NAMES[metric], zorder=3)
        ax.scatter(lines["paper"], y, facecolors="none", edgecolors=colour, s=60)
    ax.set_yticks(-np.arange(len(names)), [name.replace("_", " ") for name in names])
    data = ", ".join(dict.fromkeys(measured["our_data"]))
    ax.set_title(f"ours: {data or 'not run yet'}" + ("; rings: paper" if measured["paper"].notna().any() else ""))
    ax.set_xlabel("%")
    figure.legend(loc="outside lower center", frameon=False, ncols=len(metrics))
    return figure


def loss_curves(curves: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """Training loss over steps, one line per named run; a loss is a list of (step, value)."""
    figure, (ax,) = _figure()
    for (name, loss), colour in zip(curves.items(), PALETTE * (1 + len(curves) // len(PALETTE)), strict=False):
        steps, values = np.asarray(loss, dtype=float).T
        shown = name.removeprefix("synthetic: ")
        # a method has its own colour on every page; other rows take theirs in turn
        ax.plot(steps, values, color=METHODS.get(shown.partition(",")[0], colour), lw=1.5, label=shown)
    ax.set_xlabel("optimiser step")
    ax.set_ylabel("training loss")
    if curves:
        ax.set_yscale("log")
        figure.legend(loc="outside lower center", frameon=False, ncols=2)
    return figure


def _table_6(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[Any, float], list[Any]]:
    """Printed values by method, mAD where table 1 has it, and the methods whose mAD table 6 exchanges."""
    values = frame.pivot(index="method", columns="metric", values="paper")
    corrected = values["mad"].to_dict()
    doubtful = [method for method in values.index if (method, "mad") in TABLE_6.doubts]
    if len(doubtful) == 2:  # exchanged
        corrected |= dict(zip(doubtful, (corrected[method] for method in doubtful[::-1]), strict=True))
    return values, corrected, doubtful


def efficiency_in_words(frame: pd.DataFrame) -> str:
    """What `efficiency` shows, for readers who do not see it."""
    values, corrected, _ = _table_6(frame)
    return "; ".join(
        f"{method} {corrected[method]:.1f} at {line['flops_g']:.1f} billion, {line['params_m']:.1f} million parameters"
        for method, line in values.iterrows()
    )


def efficiency(frame: pd.DataFrame) -> Figure:
    """FLOPs and mAD of the methods of table 6; the area of a dot is proportional to the parameters.

    Printed values that another table contradicts are hollow, and filled where that table puts them.
    """
    values, corrected, doubtful = _table_6(frame)
    figure, (ax,) = _figure(height=4.0)
    for method, line in values.iterrows():
        colour, x, area = METHODS.get(str(method), GREY), line["flops_g"], 2.5 * line["params_m"]
        ax.scatter(x, corrected[method], s=area, color=colour, alpha=0.75, zorder=3, linewidths=0)
        # clear of the dot, whose radius this is, and below it where another dot lies close above
        clear = (area / np.pi) ** 0.5 + 4
        crowded = any(
            0 < corrected[other] - corrected[method] < 2 and abs(np.log10(values["flops_g"][other] / x)) < 0.4
            for other in values.index
        )
        ax.annotate(
            str(method),
            (x, corrected[method]),
            (0, -clear if crowded else clear),
            textcoords="offset points",
            ha="center",
            va="top" if crowded else "bottom",
        )
        if method in doubtful:
            ax.scatter(x, line["mad"], s=area, facecolors="none", edgecolors=colour, linewidths=1.5)
            label = f"{method}, as printed"
            ax.annotate(label, (x, line["mad"]), (0, -clear), textcoords="offset points", ha="left", va="top")
    ax.set_xscale("log")
    ax.set_xlim(2, 5000)
    ax.margins(y=0.18)
    ax.set_xlabel("FLOPs (10⁹, log scale), as printed")
    ax.set_ylabel("mAD on MVTec-AD (%)")
    return figure


def mean_differences(differences: pd.DataFrame) -> Figure:
    """Printed means minus means of their rows, one line per data set; beyond rounding in another colour."""
    figure, (ax,) = _figure(height=3.4)
    datasets = [d for d in DATASET_NAMES if d in set(differences["dataset"])]
    for i, dataset in enumerate(datasets):
        lines = differences[differences["dataset"] == dataset]
        y = -i + np.linspace(-0.25, 0.25, len(lines)) if len(lines) > 1 else np.full(len(lines), -i)
        outside = lines["difference"].abs() > 0.1 + 1e-9
        ax.scatter(lines["difference"], y, color=np.where(outside, OURS, PAPER), s=14, zorder=3)
    ax.axvspan(-0.1, 0.1, color=GREY, alpha=0.25, lw=0)
    ax.set_yticks(-np.arange(len(datasets)), [DATASET_NAMES[d] for d in datasets])
    ax.set_xlabel("printed mean − mean of rows")
    return figure


def ap_against_f1max(frame: pd.DataFrame, above: pd.DataFrame) -> Figure:
    """Pixel AP over F1max of every category and method, with the largest AP that F1max allows.

    Args:
        frame: per-category values (`audit.per_category`).
        above: the categories beyond the limit (`audit.ap_above_limit`), drawn in another colour.
    """
    wide = frame[frame["category"] != "mean"].pivot(
        index=["dataset", "category", "method"], columns="metric", values="value"
    )
    figure, (ax,) = _figure(height=3.6)
    f1max = np.linspace(0.5, 100, 300)
    limit = [100 * ap_limit(f / 100) for f in f1max]
    ax.plot(f1max, limit, color=INK, lw=1.2, label="largest AP for this F1max")
    ax.scatter(wide["pixel_f1max"], wide["pixel_ap"], s=8, color=PAPER, label="printed")
    ax.scatter(above["f1max"], above["ap"], s=30, color=OURS, label="beyond the limit", zorder=3)
    ax.set_xlabel("pixel F1max (%)")
    ax.set_ylabel("pixel AP (%)")
    ax.legend(loc="upper left", frameon=False)
    return figure


def _axis_label(metric: str) -> str:
    return f"{METRIC_NAMES[metric]} ({UNITS[metric]})"

"""The report as one HTML file: pictures, curves and numbers inside it, readable without a script."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from mambaad.files import write_text
from mambaad.inference.charts import PIXEL_CHARTS, chart, image_charts, loss_chart
from mambaad.inference.pages import asset, compare, foot, head, histogram, method_title
from mambaad.inference.report import CategoryResult, Report
from mambaad.inference.report_facts import provenance, settings, timing
from mambaad.inference.report_pictures import PICTURE, Picture
from mambaad.inference.threshold import TOLERANCE, above
from mambaad.metrics import METRICS, PROTOCOLS

FEW = 3  # categories that are shown unfolded
TITLES = {
    "image_auroc": "image AU-ROC",
    "image_ap": "image AP",
    "image_f1max": "image F1-max",
    "pixel_auroc": "pixel AU-ROC",
    "pixel_ap": "pixel AP",
    "pixel_f1max": "pixel F1-max",
    "pixel_aupro": "pixel AU-PRO",
    "mad": "mAD",
}
COLUMNS = (
    "threshold",
    "good_above",
    "missed",
    "image_fpr",
    "image_recall",
    "image_precision",
    "pixel_fpr",
    "pixel_recall",
    "pixel_precision",
    "pixel_overlap",
)


def write_page(report: Report, path: str | Path) -> Path:
    """Write the page atomically; returns its path."""
    data = report.run.data
    names = [result.name for result in report.evaluated.categories] if report.evaluated else list(data.categories)
    of = ", ".join(names) if 0 < len(names) <= FEW else f"{len(names) or 'all'} categories of {data.dataset}"
    title = f"{method_title(report.run.model)} on {of}"
    parts = [
        head(f"Report: {title}", asset("report.css")),
        f"<header><h1>{escape(title)}</h1>{_summary(report)}</header>",
        *([] if report.evaluated is None else _evaluation(report)),
        _training(report),
        _metrics(report.record["metrics"]),
        timing(report),
        settings(report),
        provenance(report),
        foot(asset("report.js")),
    ]
    return write_text(path, "\n".join(parts))


def _summary(report: Report) -> str:
    record = report.record
    line = (
        f'<p class="note">Run <code>{escape(str(record["hash"]))}</code>, '
        f"{report.run.data.side} × {report.run.data.side} pixels, "
        f"{escape(_images(record['data']['counts']))}. "
    )
    if report.evaluated is None:
        line += "There were no test images: nothing to measure, so no curves and no pictures.</p>"
        return line + _stored_thresholds(report)
    mean = record["metrics"]["exact"]["mean"]
    tiles = "".join(
        f"<div><dt>{TITLES[name]}</dt><dd>{_number(mean[name])}</dd></div>"
        for name in ("image_auroc", "pixel_auroc", "pixel_aupro", "mad")
    )
    return f'{line}Protocol exact, in percent, at the end of training:</p><dl class="tiles">{tiles}</dl>'


def _stored_thresholds(report: Report) -> str:
    """What the checkpoint's thresholds vouch for: where nothing was measured, all that is known of them."""
    stored = report.thresholds.items()
    notes = [f"{name}: {own.note}" if name else f"The checkpoint's {own.note}" for name, own in stored]
    notes += [f"A threshold in the checkpoint is not used: {report.unused}"] if report.unused else []
    return "".join(f'<p class="note">{escape(note)}.</p>' for note in notes)


def _images(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Counts of all categories together, in the record's own words."""
    total: dict[str, int] = {}
    for own in counts.values():
        for name, number in own.items():
            total[name] = total.get(name, 0) + number
    return ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in total.items()) + " images"


def _evaluation(report: Report) -> list[str]:
    assert report.evaluated is not None
    categories = report.evaluated.categories
    sections = []
    for result in categories:
        inner = _curves(result)
        if len(categories) > FEW:
            sections.append(f"<details><summary>{escape(result.name)}</summary>{inner}</details>")
        else:
            heading = f"<h3>{escape(result.name)}</h3>" if len(categories) > 1 else ""
            sections.append(heading + inner)
    intro = (
        "An image counts as anomalous if a pixel of its map is above the threshold, so one threshold moves "
        "everything here. All vertical axes run from 0 to 1."
        + (f" A threshold in the checkpoint is not used here: {report.unused}." if report.unused else "")
    )
    misses, alarms = report.evaluated.misses, report.evaluated.false_alarms
    return [
        f'<section><h2>Threshold and errors</h2><p class="note">{escape(intro)}</p>{"".join(sections)}</section>',
        _pictures("Defective images with the lowest scores", misses, "missed", "found"),
        _pictures("Good images with the highest scores", alarms, "passed", "false alarm"),
    ]


def _curves(result: CategoryResult) -> str:
    c = result.curves
    row = c.row(result.start)
    groups = [
        [float(s) for s, sample in zip(result.scores, result.samples, strict=True) if sample.is_defect is kind]
        for kind in (False, True)
    ]
    marks = [("stored threshold", row)] if result.threshold is not None else []
    best = c.balanced()
    if best is not None:
        marks.append(("best balance here", c.row(best)))
    # thresholds in full: the page compares scores with them, and the highest is one of the scores
    columns = {name: c.threshold.tolist() if name == "threshold" else _plain(getattr(c, name)) for name in COLUMNS}
    data = json.dumps({"columns": columns, "start": row, "marks": marks}, separators=(",", ":"), allow_nan=False)
    charts = image_charts(c, row) if c.good and c.defective else ["<p>Image curves need good and defective images.</p>"]
    if np.isfinite(c.pixel_recall).any():
        charts += [chart(c, row, *named) for named in PIXEL_CHARTS]
    else:
        charts.append("<p>There are no masks of defects here, so there are no pixel curves.</p>")
    legend = (
        '<span class="mb-good-key">good, upwards</span>, <span class="mb-defective-key">defective, downwards</span>'
    )
    label = f"scores of {len(groups[0])} good images upwards and {len(groups[1])} defective ones downwards"
    return (
        f'<figure class="mb-curves" data-name="{escape(result.name, quote=True)}">'
        f'<script type="application/json">{data}</script>'
        f'<p class="note">{escape(_threshold_note(result))}</p><div class="split"><div>'
        f'<p class="small">Scores of test images: {legend}</p>{histogram(groups, float(c.threshold[row]), label)}</div>'
        f'{_readout(c, row)}</div><div class="mb-charts">{"".join(charts)}</div></figure>'
    )


def _threshold_note(result: CategoryResult) -> str:
    if result.threshold is None:
        return (
            "No threshold is stored in the checkpoint. The slider starts where recall and false-positive rate on these "
            "very test images are furthest apart, which flatters: mambaad calibrate sets one from good images."
        )
    note = f"The checkpoint's {result.threshold.note}."
    good = result.curves.good
    if not good:
        return note
    number = int(result.curves.good_above[result.curves.row(result.threshold.value)])
    interval = binomtest(number, good).proportion_ci(0.95, method="exact")
    return (
        f"{note} Here {number} of {good} good test images are above it; 95 % interval of the rate: "
        f"{100 * interval.low:.1f} to {100 * interval.high:.1f} %, if none of them set the threshold."
    )


def _readout(c: Any, row: int) -> str:
    """The numbers at one threshold; `viewer.js` fills them in anew."""

    def cell(column: str, label: str, extra: str, shown: str) -> str:
        return f'<tr><th scope="row">{label}</th><td data-column="{column}" {extra}>{shown}</td></tr>'

    def share(column: str, label: str) -> str:
        value = float(getattr(c, column)[row])
        return cell(column, label, "data-percent", "undefined" if math.isnan(value) else f"{100 * value:.1f} %")

    def of(column: str, label: str, whole: int) -> str:
        value = int(getattr(c, column)[row])
        return cell(column, label, f'data-of="{whole}" data-label="{label}"', f"{value} of {whole}")

    return (
        '<table class="readout"><tbody>'
        + cell("threshold", "threshold", "", f"{c.threshold[row]:.4g}")
        + of("good_above", "false alarms", c.good)
        + of("missed", "defects missed", c.defective)
        + share("pixel_fpr", "normal pixels above it")
        + share("pixel_recall", "defect pixels found")
        + share("pixel_precision", "pixel precision")
        + share("pixel_overlap", "region overlap (PRO)")
        + "</tbody></table>"
    )


def _plain(values: Any) -> list[float | int | None]:
    return [
        None if math.isnan(value) else int(value) if float(value).is_integer() else float(f"{value:.6g}")
        for value in values
    ]


def _pictures(title: str, pictures: Sequence[Picture], below: str, found: str) -> str:
    if not pictures:
        return ""
    outline = "; the cyan line is the ground truth" if any(p.outlined for p in pictures) else ""
    cards = "".join(
        f'<li data-category="{escape(p.category, quote=True)}" data-score="{float(p.score)!r}" data-below="{below}" '
        f'data-above="{found}" data-tolerance="{TOLERANCE!r}">{compare(p.image, p.mixed, p.name, side=PICTURE)}'
        f'<p><span class="score">{p.score:.4g}</span> <b>{found if above(p.score, p.start) else below}</b><br>'
        f'<span class="name">{escape(p.category)}: {escape(p.name)}</span></p></li>'
        for p in pictures
    )
    return (
        f'<section><h2>{title}</h2><p class="note">Image left of the divider, map right of it{outline}. '
        f'Drag, or focus a picture and use the arrow keys.</p><ul class="grid">{cards}</ul></section>'
    )


def _training(report: Report) -> str:
    train = report.record["train"]
    if not train["loss"]:
        return '<section><h2>Training</h2><p class="note">This method learns in one pass, without a loss.</p></section>'
    first, last = train["loss"][0][1], train["loss"][-1][1]
    return (
        f'<section><h2>Training</h2><p class="note">Loss over {train["steps"]} steps, from {first:.4g} to {last:.4g} '
        f"(means of consecutive stretches).</p>{loss_chart(train['loss'])}</section>"
    )


def _metrics(metrics: Mapping[str, Any]) -> str:
    if not metrics:
        return ""
    tables = []
    for protocol in PROTOCOLS:
        result = metrics[protocol]
        names = (*METRICS, "mad")
        top = "".join(f'<th scope="col">{TITLES[name]}</th>' for name in names)
        rows = "".join(
            f'<tr><th scope="row">{escape(category)}</th>'
            + "".join(f"<td>{_number(values[name])}</td>" for name in names)
            + "</tr>"
            for category, values in (*result["categories"].items(), ("mean", result["mean"]))
        )
        tables.append(
            f'<div class="wide" tabindex="0" role="region" aria-label="metrics, protocol {protocol}"><table>'
            f"<caption>protocol {protocol}, percent</caption><thead><tr><td></td>{top}</tr></thead>"
            f"<tbody>{rows}</tbody></table></div>"
        )
    return f"<section><h2>Metrics of the record</h2>{''.join(tables)}</section>"


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.2f}"

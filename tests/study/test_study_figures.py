"""Figures and tables of the book that need records which are not committed, or images."""

import html
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from IPython.display import HTML
from PIL import Image

from mambaad.study import figures, front_page, page_figures, reliability
from mambaad.study.evidence import curve_report, curves, protocol, report, sensitivity


def test_curves_are_drawn_for_the_runs_that_were_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    values: dict[int, list[float]] = {}

    def found(watched: protocol.Row, results: object) -> dict[int, dict[str, Any]]:
        if watched is not curves.CURVES[0]:
            return {}
        return {
            seed: {"curve": {"points": [{"step": 250 * (i + 1), "exact": {"mad": v}} for i, v in enumerate(own)]}}
            for seed, own in values.items()
        }

    monkeypatch.setattr(curve_report, "recorded", found)
    drawn: list[Any] = []

    def plot(figure: Any, *, alt: str, caption: str) -> HTML:
        drawn.append(figure)
        return HTML(alt)

    monkeypatch.setattr(curve_report, "plot", plot)
    assert curve_report.figure("nothing") is None
    values.update({0: [50.0, 72.0, 71.0], 1: [60.0, 61.0, 63.0]})
    page = curve_report.figure("some")
    assert page is not None
    assert page.data == f"mAD on the test images against the training step, for {curves.CURVES[0].name}."
    (figure,) = drawn
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in figure.axes[0].lines]
    assert lines[0] == ([250, 500, 750], values[0])
    assert lines[2] == ([250, 500, 750], values[1])
    assert [(x[0], y[0]) for x, y in (lines[1], lines[3])] == [(500, 72.0), (750, 63.0)]  # rings at the best steps


@pytest.mark.parametrize("printed", [True, False])
def test_categories_stand_beside_print_where_there_is_print(printed: bool) -> None:
    lines = [
        {"category": category, "metric": metric, "ours": ours, "paper": 90.0 if printed else math.nan, "our_data": "d"}
        for category, ours in (("metal_nut", 80.0), ("not_run", math.nan))
        for metric in ("image_auroc", "pixel_auroc", "pixel_aupro")
    ]
    (ax,) = figures.categories(pd.DataFrame(lines)).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["metal nut"]
    assert ax.get_title() == ("ours: d; rings: paper" if printed else "ours: d")
    across = [np.ma.asarray(dots.get_offsets()).filled(np.nan)[:, 0].tolist() for dots in ax.collections[:2]]
    assert across == [[80.0], [90.0] if printed else pytest.approx([math.nan], nan_ok=True)]


def test_pictures_have_names_and_words() -> None:
    image = Image.new("RGB", (400, 200))
    shown = [("nut", [image] * 2), ("a < b", [image] * 2)]
    page = str(page_figures.pictures(shown, alt=["{name}", "{name}, map"], caption="C").data)
    words = [html.unescape(alt) for alt in re.findall(r'alt="([^"]*)"', page)]
    assert words == ["nut", "nut, map", "a < b", "a < b, map"]
    assert "--together: 2" in page
    assert page.count('width="160" height="80"') == 4
    assert "a &lt; b</div>" in page
    assert 'alt="a nut"' in str(page_figures.pictures([("nut", [image])], alt="a {name}", caption="C").data)


def test_sensitivities_are_told_in_points_with_the_protocols_last() -> None:
    names = ("mad", "image_auroc", "pixel_auroc", "pixel_aupro")

    def seed(shift: float) -> dict[str, Any]:
        readings = {
            name: {"exact": dict.fromkeys(names, 70.0 if name == sensitivity.PUBLISHED else 70.0 + shift)}
            for name in sensitivity.READINGS
        }
        return {"readings": {n: own | {"paper": dict.fromkeys(names, 69.0)} for n, own in readings.items()}}

    frame = report.sensitivities({"seeds": {"0": seed(1.0), "1": seed(3.0)}})
    assert list(frame["post-processing"]) == [*list(sensitivity.READINGS)[1:], "protocol paper"]
    first, *_, last = frame.to_dict("records")
    assert (first["n"], first["mAD"], first["seeds"]) == (2, "+2.0", "+1.0 to +3.0")
    assert last["mAD"] == "\N{MINUS SIGN}1.0"


def test_mutations_that_nobody_looked_into_say_so(tmp_path: Path) -> None:
    tried = {
        "one": {"survived": True, "change": ["-a < b", "+a <= b"]},
        "two": {"survived": False, "change": ["-a", "+b"]},
    }
    record = {"files": {"x.py": {"mutations": 9, "tried": tried}}}
    lines = reliability.mutations([record]).to_dict("records")
    assert [(line["file"], line["tried"], line["noticed"], line["score, %"]) for line in lines] == [
        ("x.py", 2, 1, 50.0),
        ("all", 2, 1, 50.0),
    ]
    assert reliability.mutations([]).empty
    assert reliability.inputs([]).empty
    (left,) = reliability.survivors([record], tmp_path).to_dict("records")
    assert left == {"file": "x.py", "change": "a < b → a <= b", "why": "not looked into yet"}
    (tmp_path / reliability.SURVIVORS).write_text('{"one": "the same at once"}', encoding="utf-8")
    assert reliability.survivors([record], tmp_path)["why"].tolist() == ["the same at once"]


def test_the_front_page_shows_images_that_were_chosen_before_their_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_page, "EXAMPLES", (front_page.EXAMPLES[0], front_page.EXAMPLES[-1]))
    page = front_page.example()
    names = re.findall(r"<strong>([^<]*)</strong>, score ([0-9.]+)\.", page)
    assert [name for name, _ in names] == ["gear, a piece missing", "gear, good"]
    defective, good = (float(score) for _, score in names)
    assert defective > good
    assert page.count("its defect outlined") == 2, "of the image and of its map"

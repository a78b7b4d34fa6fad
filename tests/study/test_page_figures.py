"""Plots and tables of the pages: nothing blank above and below a plot, powers a telephone can show, lines as cards."""

import re

import pytest
from matplotlib.figure import Figure

from mambaad.study import table_html
from mambaad.study.page_figures import inline_svg, power_of_ten, style
from mambaad.study.table_html import Column


def _height(svg: str) -> float:
    return float(re.search(r'viewBox="0 0 [\d.]+ ([\d.]+)"', svg)[1])  # type: ignore[index]


def test_what_is_blank_above_and_below_is_cut() -> None:
    with style():
        tall, flat = (Figure(figsize=(5.2, height), layout="constrained") for height in (4, 2))
        for figure in (tall, flat):
            for axes in figure.subplots(1, 3):
                axes.imshow([[1, 2], [3, 4]])
    assert _height(inline_svg(tall, "three pictures")) == pytest.approx(
        _height(inline_svg(flat, "three pictures")), abs=9
    )


def test_powers_of_ten_are_text() -> None:
    with style():
        figure = Figure(figsize=(5.2, 2), layout="constrained")
        figure.subplots().loglog([1, 1000], [1e-3, 10])
    texts = re.findall(r">([^<>]+)</text>", inline_svg(figure, "a line"))
    assert {"10⁰", "10³", "10⁻³", "10¹"} <= set(texts)
    assert [power_of_ten(v) for v in (1e-12, 1.0, 20.0, 0.0, -10.0)] == ["10⁻¹²", "10⁰", "", "", ""]


def test_a_stacked_table_names_the_head_of_each_cell_and_stays_a_table() -> None:
    columns = [Column("n", [5]), Column("verdict", ["supported"])]
    shown = str(table_html.table(["a claim"], columns, "Claims.", head="claim", stacked=True).data)
    assert 'class="numbers stacked"' in shown
    assert 'data-label="n">5' in shown
    assert 'data-label="verdict">supported</td>' in shown
    for role in ("table", "rowgroup", "row", "columnheader", "rowheader", "cell"):
        assert f'role="{role}"' in shown
    plain = str(table_html.table(["a claim"], columns, "Claims.", head="claim").data)
    assert "data-label" not in plain
    assert 'role="table"' not in plain

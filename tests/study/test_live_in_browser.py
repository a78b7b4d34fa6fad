"""The interactive figures in a real browser, 390 pixels wide: they replace the still picture, answer, and fit."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import open_browser, wider_than_its_window

from mambaad.model.scan_order import scan_order
from mambaad.study.network_map import network_boxes, network_svg
from mambaad.study.page_figures import live

ROOT = Path(__file__).parents[2]
LIVE = ROOT / "book" / "extra" / "live"
STILL = '<svg viewBox="0 0 10 10" role="img" aria-label="still"></svg>'


def _bench() -> dict[str, Any]:
    draws = np.random.default_rng(0)
    cases = []
    for name in ("one", "two"):
        mask = np.zeros((16, 16), dtype=bool)
        mask[4:8, 4:8] = name == "one"
        scores = (1000 * draws.random((16, 16)) + 900 * mask).astype(np.uint16)
        texts = [base64.b64encode(content).decode() for content in (scores.tobytes(), np.packbits(mask).tobytes())]
        cases.append({"words": name, "image": "data:,", "map": texts[0], "mask": texts[1]})
    return {"side": 16, "outlier": 1, "cases": cases}


FIGURES = {
    "scan-paths": {"still": STILL},
    "memory-machine": {"still": STILL},
    "threshold-bench": {"still": STILL, "data": _bench()},
    "network-map": {"still": network_svg(), "data": network_boxes()},
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser(390) as found:
        yield found


def _open(browser: Any, folder: Path, name: str) -> None:
    figure = live(name, alt="", caption="What it shows.", **FIGURES[name]).data.replace("../live/", LIVE.as_uri() + "/")
    page = folder / f"{name}.html"
    page.write_text(f"<!doctype html><meta charset=utf-8><title>x</title><body style='margin:12px'>{figure}")
    browser.get(page.as_uri())


def _text(browser: Any) -> str:
    return " ".join(node.text for node in browser.find_elements("css selector", ".live-read"))


def _move(browser: Any, slider: str, value: float) -> None:
    """Set the slider whose label begins so, as a hand would."""
    script = """
        const label = [...document.querySelectorAll('.live label')].find((l) => l.textContent.startsWith(arguments[0]));
        const input = label.querySelector('input');
        input.value = arguments[1];
        input.dispatchEvent(new Event('input'));"""
    browser.execute_script(script, slider, value)


@pytest.mark.parametrize("name", FIGURES)
def test_figure_runs_without_errors_and_fits_a_phone(name: str, browser: Any, tmp_path: Path) -> None:
    _open(browser, tmp_path, name)
    assert browser.find_elements("css selector", ".live-host svg")
    assert not browser.find_elements("css selector", ".live-still")
    assert not wider_than_its_window(browser)
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    unnamed = (
        "return [...document.querySelectorAll('.live :is(input, select)')].filter((x) => !x.closest('label')).length"
    )
    assert browser.execute_script(unnamed) == 0


def test_arrow_keys_choose_the_token_and_an_impossible_side_is_refused(browser: Any, tmp_path: Path) -> None:
    _open(browser, tmp_path, "scan-paths")
    step = int(scan_order("hilbert", 8).argsort()[3 * 8 + 3])
    assert f"row 3, column 3: step {step} of 0 to 63" in _text(browser)
    browser.find_element("css selector", "svg.grid").send_keys("\ue014")  # arrow to the right
    assert "row 3, column 4" in _text(browser)
    sides = browser.find_elements("css selector", ".live select")[1]
    browser.execute_script("arguments[0].value = 12; arguments[0].dispatchEvent(new Event('change'))", sides)
    assert "The hilbert curve fills a side of 4, 8, 16, 32" in _text(browser)


def test_marks_make_the_machine_selective(browser: Any, tmp_path: Path) -> None:
    _open(browser, tmp_path, "memory-machine")
    assert "no convolution does this" in _text(browser)
    browser.execute_script("document.querySelector('.live label.check input').click()")
    assert "Toeplitz" in _text(browser)


def test_threshold_and_outlier_change_the_read_out(browser: Any, tmp_path: Path) -> None:
    _open(browser, tmp_path, "threshold-bench")
    _move(browser, "Threshold", 0)
    assert "Of 16 defect pixels 16 are found" in _text(browser)
    _move(browser, "Threshold", 1)
    assert "Of 16 defect pixels 0 are found" in _text(browser)
    browser.execute_script("document.querySelector('.live label.check input').click()")
    assert "One normal pixel now scores 3 times" in _text(browser)


def test_a_box_of_the_map_opens_by_key(browser: Any, tmp_path: Path) -> None:
    _open(browser, tmp_path, "network-map")
    browser.find_element("css selector", '[data-box="gate"]').send_keys("\n")
    assert "SiLU(z)" in browser.find_element("css selector", "dl.facts").text


def test_without_scripts_the_still_picture_and_the_caption_stay() -> None:
    figure = live("scan-paths", still=STILL, alt="", caption="**A** caption.").data
    assert STILL in figure
    assert "<figcaption><strong>A</strong> caption.</figcaption>" in figure

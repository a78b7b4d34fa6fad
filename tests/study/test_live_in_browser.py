"""The interactive figures in a real browser, 390 pixels wide: they replace the still picture, answer, and fit."""

import base64
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import open_browser, wider_than_its_window
from playwright.sync_api import Page

from mambaad.inference import pages
from mambaad.model.scan_order import scan_order
from mambaad.study.compare import Case, compare
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


def _differences() -> dict[str, Any]:
    """Two groups, made up: one row clearly worse, one that has a single seed."""

    def row(name: str, seeds: int, mean: float, low: float | None, high: float | None) -> dict[str, Any]:
        values: dict[str, Any] = {"mean": mean, "low": low, "high": high, "detectable": None if low is None else 0.4}
        values |= {"improvement": 0.25, "sure": seeds > 2, "differences": [mean] * seeds}
        runs = [[seed, f"{name}{seed}"] for seed in range(seeds)]
        return {"name": name, "n": seeds, "runs": runs, "values": {"mad": values, "pixel_ap": {**values, "mean": 9}}}

    first: dict[str, Any] = {"title": "Orders", "reference": "hilbert", "missing": ["scan"]}
    first["rows"] = [row("sweep", 5, -1.5, -2.0, -1.0), row("zigzag", 1, 0.3, None, None)]
    second: dict[str, Any] = {
        "title": "Branches",
        "reference": "both",
        "missing": [],
        "rows": [row("local", 5, -4.0, -5.0, -3.0)],
    }
    return {"records": "r/", "metrics": [["mad", "mAD"], ["pixel_ap", "pixel AP"]], "groups": [first, second]}


def _rows(number: int) -> str:
    """Still rows of pictures as `map_gallery` writes them."""
    square = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 1 1'></svg>"
    images = [[f'<img src="{square}" alt="row {row}, picture {k}">' for k in range(number)] for row in (0, 1, 2)]
    strips = "".join(f'<div class="strip"><div>{"".join(row)}</div><p>words</p></div>' for row in images)
    return f'<div class="strips">{strips}</div>'


_GALLERY = {
    "maps": ["stride 4", "stride 8", "stride 16", "sum, smoothed"],
    "thresholds": [1.0, 0.8, 0.6, 0.2],
    "cases": [
        {"name": "gear, spot", "verdict": "missed", "peaks": [1.2, 0.5, 0.4, 0.1]},
        {"name": "gear, good", "verdict": "false alarm", "peaks": [0.9, 0.9, 0.4, 0.3]},
        {"name": "gear, bent", "verdict": "found", "peaks": [1.9, 1.9, 1.4, 0.7]},
    ],
}
FIGURES: dict[str, dict[str, Any]] = {
    "map-gallery": {"still": _rows(5), "data": _GALLERY},
    "training-steps": {"still": _rows(2), "data": [[0, 0.4, 0.4], [20, 0.36, 0.3], [800, 0.34, 0.08]]},
    "forest-explorer": {"still": STILL, "data": _differences()},
    "scan-paths": {"still": STILL},
    "memory-machine": {"still": STILL},
    "threshold-bench": {"still": STILL, "data": _bench()},
    "network-map": {"still": network_svg(), "data": network_boxes()},
}


@pytest.fixture(scope="module")
def browser() -> Iterator[tuple[Page, list[str]]]:
    with open_browser(390) as found:
        yield found


@pytest.fixture
def opened(browser: tuple[Page, list[str]], tmp_path: Path) -> Callable[[str], Page]:
    page, errors = browser

    def once(name: str) -> Page:
        figure = live(name, alt="", caption="What it shows.", **FIGURES[name]).data
        figure = figure.replace("../live/", LIVE.as_uri() + "/")
        file = tmp_path / f"{name}.html"
        file.write_text(f"<!doctype html><meta charset=utf-8><title>x</title><body style='margin:12px'>{figure}")
        errors.clear()
        page.goto(file.as_uri())
        return page

    return once


def _text(page: Page) -> str:
    return " ".join(page.locator(".live-read").all_inner_texts())


def _move(page: Page, slider: str, value: float) -> None:
    """Set the slider whose label begins so, as a hand would."""
    page.locator(".live label").filter(has_text=re.compile(f"^{slider}")).locator("input").fill(str(value))


@pytest.mark.parametrize("name", FIGURES)
def test_figure_runs_without_errors_and_fits_a_phone(name: str, opened: Any, browser: Any) -> None:
    page = opened(name)
    assert page.locator(".live-host :is(svg, img)").count()
    assert not page.locator(".live-still").count()
    assert not wider_than_its_window(page)
    assert not browser[1]
    unnamed = "controls => controls.filter((control) => !control.closest('label')).length"
    assert page.locator(".live :is(input, select)").evaluate_all(unnamed) == 0


def test_arrow_keys_choose_the_token_and_an_impossible_side_is_refused(opened: Any) -> None:
    page = opened("scan-paths")
    step = int(scan_order("hilbert", 8).argsort()[3 * 8 + 3])
    assert f"row 3, column 3: step {step} of 0 to 63" in _text(page)
    page.locator("svg.grid").press("ArrowRight")
    assert "row 3, column 4" in _text(page)
    page.locator(".live select").nth(1).select_option("12")
    assert "The hilbert curve needs a side that is a power of two" in _text(page)


def test_the_last_token_of_a_route_influences_none(opened: Any) -> None:
    page = opened("scan-paths")
    assert re.search(r"[1-9]\d? % of its influence stays within 3 tokens", _text(page))
    _move(page, "Step", 63)
    assert "It is the last token on this route and influences no other." in _text(page)


def test_marks_make_the_machine_selective(opened: Any) -> None:
    page = opened("memory-machine")
    assert "no convolution does this" in _text(page)
    page.locator(".live label.check input").first.click()
    assert "Toeplitz" in _text(page)


def test_threshold_and_outlier_change_the_read_out(opened: Any) -> None:
    page = opened("threshold-bench")
    _move(page, "Threshold", 0)
    assert "Of 16 defect pixels 16 are found" in _text(page)
    _move(page, "Threshold", 1)
    assert "Of 16 defect pixels 0 are found" in _text(page)
    page.get_by_role("button", name="Go to the best F1").click()
    best = re.search(r"F1max (\d+\.\d)", _text(page))
    assert best
    assert f"F1 {best[1]} %" in _text(page)
    words = page.locator("svg[aria-label*='; now at']").evaluate_all("all => all.map((one) => one.ariaLabel)")
    titles = ["Recall over FPR (ROC)", "Precision over recall", "PRO over FPR"]
    assert [text.partition(";")[0] for text in words] == titles
    page.locator(".live label.check input").first.click()
    assert "One normal pixel now scores 3 times" in _text(page)


def test_a_box_of_the_map_opens_by_key(opened: Any) -> None:
    page = opened("network-map")
    page.locator('[data-box="gate"]').press("Enter")
    assert "SiLU(z)" in page.locator("dl.facts").inner_text()


def test_keys_and_lists_of_the_explorer_choose_what_it_says(opened: Any) -> None:
    page = opened("forest-explorer")
    assert "sweep minus hilbert: −1.5 points of mAD, 95 % interval −2.0 to −1.0, 5 seeds" in _text(page)
    assert "The interval excludes zero" in _text(page)
    assert page.locator(".live-records a").first.get_attribute("href") == "r/sweep0.json"
    assert "No run to compare yet: scan." in page.locator(".live-host").inner_text()
    page.locator("svg.forest").press("ArrowDown")
    assert "zigzag minus hilbert: +0.3 points of mAD, a single seed, no interval" in _text(page)
    assert "nothing is concluded" in _text(page)
    page.locator(".live select").nth(2).select_option("size")
    assert "zigzag minus hilbert" in _text(page)
    page.locator(".live select").nth(1).select_option("pixel_ap")
    assert "+9.0 points of pixel AP" in _text(page)
    page.locator(".live select").nth(0).select_option("1")
    assert "local minus both" in _text(page)
    assert page.locator("svg.forest circle").count() == 5


def test_gallery_shows_the_map_that_was_chosen(opened: Any) -> None:
    page = opened("map-gallery")
    over = page.locator(".live-stage img.over")
    assert "gear, spot: missed. Map shown: sum, smoothed, largest value 0.10, not above" in _text(page)
    assert over.get_attribute("alt") == "row 0, picture 4"
    page.get_by_role("button", name="stride 4").press("Enter")
    assert "stride 4, largest value 1.20, above its threshold of 1.00" in _text(page)
    assert over.get_attribute("alt") == "row 0, picture 1"
    assert page.get_by_role("button", name="stride 4").get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="Previous").click()
    assert "gear, bent: found" in _text(page)
    page.locator(".live select").select_option("1")
    assert "gear, good: false alarm" in _text(page)
    slider = page.get_by_label("Map from")
    slider.press("ArrowRight")
    assert "51%" in str(page.locator(".live-stage").get_attribute("style"))
    assert over.get_attribute("alt") == "row 1, picture 1"


def test_arrow_keys_scrub_through_the_training(opened: Any) -> None:
    page = opened("training-steps")
    shown = page.locator(".live-stage img")
    assert "After 800 steps the defective image scores 0.340, its good twin 0.080: 4.3 times as much" in _text(page)
    slider = page.get_by_label("Training step")
    slider.press("ArrowLeft")
    assert "After 20 steps" in _text(page)
    assert slider.get_attribute("aria-valuetext") == "20"
    assert [image.get_attribute("alt") for image in shown.all()] == ["row 1, picture 0", "row 1, picture 1"]
    page.emulate_media(reduced_motion="reduce")
    page.reload()
    page.get_by_role("button", name="Next step").click()
    assert "After 0 steps" in _text(page)


def test_compared_images_are_chosen_by_buttons_and_their_divider_moves_by_key(browser: Any, tmp_path: Path) -> None:
    page, errors = browser
    mask = np.zeros((8, 8), dtype=bool)
    mask[:, 6:] = True
    image, values = np.full((8, 8, 3), 120, dtype=np.uint8), np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    cases = [Case(name, image, values, mask, 1.0) for name in ("gear, bent", "gear, worn")]
    style = (ROOT / "book" / "_static" / "book.css").read_text() + pages.asset("viewer.css")
    script = (ROOT / "book" / "_static" / "compare.js").read_text() + pages.asset("viewer.js")
    path = tmp_path / "compare.html"
    path.write_text(f"<style>{style}</style><body>{compare(cases, 'Two.')}<script>{script}</script>", encoding="utf-8")
    page.goto(path.as_uri())
    first, second = page.locator(".case").all()
    assert (first.is_visible(), second.is_visible()) == (True, False)
    page.get_by_role("button", name="gear, worn").press("Enter")
    assert (first.is_visible(), second.is_visible()) == (False, True)
    assert page.get_by_role("button", name="gear, worn").get_attribute("aria-pressed") == "true"
    divider = second.locator("input[type=range]")
    assert divider.input_value() == "81", "it begins in the middle of the defect"
    divider.press("ArrowLeft")
    assert divider.input_value() == "80"
    assert "80%" in second.locator("img").nth(1).evaluate("picture => getComputedStyle(picture).clipPath")
    assert not wider_than_its_window(page)
    assert errors == []


def test_without_scripts_the_still_picture_and_the_caption_stay() -> None:
    figure = live("scan-paths", still=STILL, alt="", caption="**A** caption.").data
    assert STILL in figure
    assert "<figcaption><strong>A</strong> caption.</figcaption>" in figure

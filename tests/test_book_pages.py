"""The built book in a browser: what a reader on a desktop, on a phone, with a keyboard or a screen reader meets.

`make book`, then `pytest -m slow tests/test_book_pages.py`.  Needs Chromium of the system; where it or the book is
missing the tests are skipped, and with REQUIRE_BROWSER=1, as in .ci/run, they fail.
"""

import gzip
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import axe_playwright_python
import pytest
from browser import ARGUMENTS, CHROMIUM
from playwright.sync_api import Browser, Page, sync_playwright
from test_book import BUILDS, ROOT, _chapters

HTML = ROOT / "build" / "book" / "_build" / "html"
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
PAGES = [f"{chapter}.html" for chapter in _chapters()]
# a phone in the dark, a desktop in the light: both grounds are met
DESKTOP: dict[str, Any] = {"viewport": {"width": 1400, "height": 900}, "color_scheme": "light"}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "has_touch": True}
HEAVIEST = 1_000_000  # bytes of a page with everything it loads, texts compressed as servers send them
SMALLEST = 9.75  # pixels of text in figures on a phone; 10 but for rounding

MEASURE = """() => {
  const main = document.querySelector("article") || document.body;
  const shown = (e) => e.checkVisibility ? e.checkVisibility() : e.offsetParent !== null;
  const name = (e) => `${e.tagName.toLowerCase()}.${e.className.baseVal ?? e.className} ` +
    (e.getAttribute("aria-label") || e.textContent || e.getAttribute("src") || "").trim().slice(0, 60);
  const wide = document.documentElement.clientWidth;
  const inScroller = (e) => e.closest(
    ".scroll, .cell_output, pre, .math, .network, div.table-wrapper, .pst-scrollable-table-container");
  const pictures = [...main.querySelectorAll("img, svg, canvas")].filter(
    (e) => shown(e) && !e.closest("svg svg, a.headerlink, button, .sd-card"));
  const label = (e) => e.tagName === "IMG" ? e.alt
    : e.getAttribute("aria-label") || e.querySelector("title")?.textContent || "";
  const caption = (e) => e.closest("figure")?.querySelector("figcaption")?.textContent.trim();
  const beyond = (e) => shown(e) && !inScroller(e) && e.getBoundingClientRect().right > wide + 1;
  const hidden = (e) => e.closest("[aria-hidden=true]") || e.getAttribute("role") === "presentation";
  const light = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0.05);
  const contrast = (a, b) => Math.max(light(a), light(b)) / Math.min(light(a), light(b));
  const tables = [...main.querySelectorAll("table")].filter((t) => shown(t) && !t.closest(".highlighttable"));
  return {
    overflow: document.documentElement.scrollWidth > wide
      ? [...document.body.querySelectorAll("*")].filter(beyond).map(name).slice(0, 5) : [],
    widest: document.documentElement.scrollWidth - wide,
    unnamed: pictures.filter((e) => !hidden(e) && !/^.+ .+$/s.test(label(e).trim())).map(name),
    uncaptioned: pictures.filter((e) => !hidden(e) && !caption(e)).map(name),
    untitled: tables.filter((t) => t.closest(".cell_output") && !t.caption?.textContent.trim()).map(name),
    unscoped: tables.filter((t) => [...t.querySelectorAll("th")].some((h) => !h.scope)).map(name),
    pale: [...main.querySelectorAll("figure.plot svg text")].filter((e) => shown(e) && !e.closest("svg.forest"))
      .filter((e) => contrast(getComputedStyle(e).fill, getComputedStyle(document.body).backgroundColor) < 4.5)
      .map((e) => e.textContent.trim().slice(0, 30)),
    small: [...main.querySelectorAll("svg text")].filter((e) => shown(e) && e.textContent.trim()).map((e) => {
      const m = e.getScreenCTM();
      const size = parseFloat(getComputedStyle(e).fontSize) * Math.hypot(m.a, m.b);
      return [size, e.textContent.trim().slice(0, 30)];
    }).filter(([size]) => size < SMALLEST),
  };
}""".replace("SMALLEST", str(SMALLEST))


@dataclass(frozen=True)
class Visit:
    """What one page did and was in one window."""

    errors: list[str]
    requests: list[str]
    seen: dict[str, Any]
    violations: list[str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    required = os.environ.get("REQUIRE_BROWSER") == "1"
    missing = "" if HTML in BUILDS else "needs a book built from these sources: make book"
    missing = missing or ("" if CHROMIUM else "needs Chromium: apt-get install chromium")
    if missing and required:
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield found
        found.close()


def _visit(browser: Browser, address: str, window: dict[str, Any]) -> Visit:
    with browser.new_context(**window, reduced_motion="reduce") as context:
        page = context.new_page()
        errors: list[str] = []
        requests: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address, wait_until="load")
        seen = page.evaluate(MEASURE)
        return Visit(list(errors), list(requests), seen, _violations(page))


def _sent(path: Path) -> int:
    """Bytes that a server sends of a file: texts and scripts are compressed."""
    content = path.read_bytes()
    return len(gzip.compress(content, 6)) if path.suffix in {".html", ".css", ".js", ".svg", ".json"} else len(content)


def _violations(page: Page) -> list[str]:
    """Serious and critical findings of axe, each with the first places."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations'], iframes: false, preload: false})")[
        "violations"
    ]
    return [
        f"{v['id']} ({v['impact']}), {len(v['nodes'])} places: "
        + " | ".join(node["html"][:120] for node in v["nodes"][:3])
        for v in found
        if v["impact"] in ("serious", "critical")
    ]


@pytest.fixture(scope="module")
def visit(browser: Browser) -> Any:
    @cache
    def once(page: str, on: str) -> Visit:
        return _visit(browser, (HTML / page).as_uri(), PHONE if on == "phone" else DESKTOP)

    return once


both = pytest.mark.parametrize("on", ["desktop", "phone"])
every_page = pytest.mark.parametrize("page", PAGES)
pytestmark = pytest.mark.slow


@both
@every_page
def test_nothing_serious_for_axe(visit: Any, page: str, on: str) -> None:
    assert not visit(page, on).violations


@both
@every_page
def test_no_page_is_wider_than_its_window(visit: Any, page: str, on: str) -> None:
    seen = visit(page, on).seen
    assert seen["widest"] <= 0, seen["overflow"]


@every_page
def test_no_errors_and_no_other_host(visit: Any, page: str) -> None:
    found = visit(page, "desktop")
    assert not found.errors
    assert not [url for url in found.requests if urlsplit(url).scheme not in ("file", "data", "blob")]


@every_page
def test_a_page_and_what_it_loads_are_light(visit: Any, page: str) -> None:
    files = {unquote(urlsplit(url).path) for url in visit(page, "desktop").requests if url.startswith("file:")}
    sizes = {path: _sent(Path(path)) for path in files}
    assert sum(sizes.values()) < HEAVIEST, sorted(sizes.items(), key=lambda item: -item[1])[:4]


@every_page
def test_figures_have_captions_and_texts_for_who_does_not_see_them(visit: Any, page: str) -> None:
    seen = visit(page, "desktop").seen
    assert not seen["unnamed"]
    assert not seen["uncaptioned"]


@every_page
def test_tables_have_captions_and_their_heads_scopes(visit: Any, page: str) -> None:
    seen = visit(page, "desktop").seen
    assert not seen["untitled"]
    assert not seen["unscoped"]


@both
@every_page
def test_text_in_plots_stands_out_from_the_page(visit: Any, page: str, on: str) -> None:
    assert not visit(page, on).seen["pale"]


@every_page
def test_text_in_figures_is_legible_on_a_phone(visit: Any, page: str) -> None:
    assert not visit(page, "phone").seen["small"]


def test_the_checks_see_what_is_wrong(browser: Browser, tmp_path: Path) -> None:
    """One bad page, on which every check has to fire."""
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!doctype html><html lang=en><title>bad</title><body style='background:#fff'><main><article><h1>Bad</h1>"
        '<p style="width:900px;color:#bbb;background:#ccc">wide and pale</p>'
        '<img src="../_images/3fa9.png" alt="../_images/3fa9.png">'
        '<div class="cell_output"><table><tr><th>head</th></tr><tr><td>1</td></tr></table></div>'
        '<figure class="plot"><svg role="img" aria-label="plot" viewBox="0 0 100 10" width="100">'
        '<text font-size="3" y="5" fill="#eee">tiny</text></svg></figure>'
        '<script>throw new Error("broken")</script><script src="https://elsewhere.example/x.js"></script>'
        "</article></main>",
        encoding="utf-8",
    )
    found = _visit(browser, bad.as_uri(), PHONE)
    assert any("broken" in error for error in found.errors)
    assert any("elsewhere.example" in url for url in found.requests)
    assert found.seen["widest"] > 0
    assert found.seen["overflow"]
    assert len(found.seen["unnamed"]) == 2
    assert len(found.seen["uncaptioned"]) == 2
    assert found.seen["untitled"]
    assert found.seen["unscoped"]
    assert [text for _, text in found.seen["small"]] == found.seen["pale"] == ["tiny"]
    assert any(violation.startswith("color-contrast") for violation in found.violations)


def test_a_table_sorts_and_unfolds(browser: Browser) -> None:
    """On the page of table 5, with the mouse's and the keyboard's events."""
    page = browser.new_page(**DESKTOP)
    page.goto((HTML / "notebooks" / "table_5_scan_methods.html").as_uri())
    table = page.locator("div.numbers").first
    head = table.locator("button.sort", has_text="MVTec-AD")
    column = (
        table.locator("thead tr")
        .last.locator("th, td")
        .evaluate_all("heads => heads.findIndex(h => h.textContent.includes('MVTec-AD'))")
    )
    read = f"rows => rows.map(r => r.cells[{column}].textContent)"
    original = table.locator("tbody tr").evaluate_all(read)
    for turn in (True, False):
        head.press("Enter")
        values = [float(v) for v in table.locator("tbody tr").evaluate_all(read) if v != "–"]
        assert values == sorted(values, reverse=turn)
    head.click()
    assert table.locator("tbody tr").evaluate_all(read) == original
    folded = page.locator("div.numbers:has(> button.more)").first
    wide = "table => table.querySelectorAll('tbody tr:first-child > :not([hidden])').length"
    cells = folded.locator("tbody tr").first.locator("th, td")
    visible = cells.evaluate_all("cells => cells.filter(c => c.checkVisibility()).length")
    folded.locator("> button.more").click()
    assert cells.evaluate_all("cells => cells.filter(c => c.checkVisibility()).length") > visible, wide
    page.close()


def test_links_with_fragments_have_a_target() -> None:
    """Whether the files exist is asked in test_book; this is about the places within them."""
    if HTML not in BUILDS:
        pytest.skip("needs a book built from these sources: make book")
    pages = {path: path.read_text(encoding="utf-8") for path in HTML.rglob("*.html")}
    ids = {path: set(re.findall(r"\bid=\"([^\"]+)\"", text)) for path, text in pages.items()}
    missing = []
    for path, text in pages.items():
        for target, fragment in re.findall(r"<a [^>]*href=\"([^\"#:]*)#([^\"]+)\"", text):
            place = (path.parent / target).resolve() if target else path
            if unquote(fragment) not in ids.get(place, set()):
                missing.append(f"{path.name} -> {target}#{fragment}")
    assert not missing, json.dumps(missing[:10])

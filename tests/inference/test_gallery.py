"""Overlays on one colour scale, and a page that needs nothing else and runs nothing that a file name brings."""

import base64
import io
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mambaad.inference.gallery import Gallery, colour_scale, overlay
from mambaad.inference.threshold import Threshold, calibrate

GREY = Image.new("RGB", (300, 200), (120, 120, 120))


class Page(HTMLParser):
    """What a browser would make of the page: elements with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def write(
    path: Path,
    names: Sequence[str],
    threshold: Threshold | None = None,
    room: int = 100,
    failed: dict[str, str] | None = None,
    link: bool = True,
) -> Page:
    scores = [0.5 - 0.01 * k for k in range(len(names))]
    page = Gallery(path, scores, threshold, room)
    for name, score in zip(names, scores, strict=True):
        if page.room:
            called = None if threshold is None else score > threshold.value
            page.add(name, score, called, GREY, GREY, f"overlays/{name}.jpg" if link else None)
    page.close(failed or {})
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_needs_no_other_host_and_no_other_file(tmp_path: Path) -> None:
    page = write(tmp_path / "g.html", ["a.png", "b.png"])
    assert not page.all("link")
    assert not any("src" in script for script in page.all("script"))
    images = page.all("img")
    assert len(images) == 4
    assert all((image["src"] or "").startswith("data:image/jpeg;base64,") for image in images)
    raw = (tmp_path / "g.html").read_text()
    assert not re.search(r"https?://|url\(|@import", raw)
    assert "default-src 'none'" in raw
    assert "@STYLE@" not in raw
    assert not re.search(r"@[A-Z]+@", raw)
    with Image.open(io.BytesIO(base64.b64decode((images[0]["src"] or "").partition(",")[2]))) as small:
        assert max(small.size) <= 220
        assert str(small.width) == images[0]["width"]


@pytest.mark.parametrize(
    "name", ['"><script>alert(1)</script>.png', "' onerror='x' .png", "a&b<i>.png", "ä ö#?%.png", "</ul></main>.png"]
)
def test_file_names_stay_text(tmp_path: Path, name: str) -> None:
    page = write(tmp_path / "g.html", [name], failed={name: f"{name}: cannot be read"})
    plain = write(tmp_path / "p.html", ["a.png"], failed={"a.png": "a"})
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    assert [set(attributes) for _, attributes in page.elements] == [set(a) for _, a in plain.elements]
    (item,) = [a for a in page.all("li") if "data-name" in a]
    assert item["data-name"] == name
    assert name in page.text
    (link,) = page.all("a")
    assert not set('<>"# ?') & set(link["href"] or "")


def test_the_threshold_is_shown_and_splits_the_cards(tmp_path: Path) -> None:
    threshold = calibrate([0.1, 0.2, 0.495], 0.25, side=64)
    page = write(tmp_path / "g.html", ["a", "b", "c"], threshold)
    assert [a["data-anomalous"] for a in page.all("li")] == ["yes", "no", "no"]
    assert f"1 above the {threshold.note}" in page.text
    assert len(page.all("line")) == 1
    without = write(tmp_path / "w.html", ["a"])
    assert "no threshold" in without.text
    assert not without.all("line")
    assert any("hidden" in label for label in without.all("label"))


def test_a_full_page_says_what_it_leaves_out(tmp_path: Path) -> None:
    page = write(tmp_path / "g.html", list("abcde"), room=2)
    assert "the 2 most anomalous of 5 images" in page.text
    assert len([a for a in page.all("li") if "data-name" in a]) == 2


def test_an_unfinished_page_leaves_nothing(tmp_path: Path) -> None:
    page = Gallery(tmp_path / "g.html", [0.1], None, 1)
    page.discard()
    page.discard()
    assert not list(tmp_path.iterdir())


def test_overlays_are_bare_below_the_scale_and_full_above_it() -> None:
    ramp = np.linspace(0, 1, 64, dtype=np.float32)[None].repeat(64, 0)
    mixed = np.asarray(overlay(GREY, ramp, 0.4, 0.6)).astype(int)
    assert mixed.shape == (200, 300, 3)
    assert (mixed[:, :110] == 120).all()
    assert (np.ptp(mixed[:, 190:].reshape(-1, 3), axis=0) == 0).all()
    red, green, blue = mixed[0, -1]
    assert red > 180 > green
    assert green < 60
    assert blue < 90


def test_the_scale_is_common_and_follows_the_threshold() -> None:
    assert colour_scale([0.1, 9.0], 0.2) == pytest.approx((0.1, 0.3))
    low, high = colour_scale([0.1, 0.2, 0.3])
    assert low == pytest.approx(0.1)
    assert 0.2 < high <= 0.3
    low, high = colour_scale([0.0])
    assert high > low
    low, high = colour_scale([0.1], -0.2)
    assert high > low

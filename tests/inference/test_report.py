"""The report of a run: what it is made from, that it checks the record, and that it needs no other file or host."""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from browser import open_browser, wider_than_its_window
from PIL import Image
from scipy.stats import beta
from test_gallery import Page

from mambaad import cli
from mambaad.data import DatasetError
from mambaad.inference.report import Evaluated, Report, find_run, make_report
from mambaad.inference.report_page import write_page
from mambaad.inference.threshold import calibrate, store_threshold
from mambaad.model.checkpoint import read_checkpoint, write_checkpoint


@pytest.fixture(scope="module")
def trained(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of `mambaad train`: a memory bank on one synthetic category."""
    out = tmp_path_factory.mktemp("run") / "out"
    options = ["--method", "memory_bank", "--encoder-weights", "embedded", "--side", "64", "--device", "cpu"]
    assert cli.main(["train", "--data", str(drawn), "--categories", "gear", "--out", str(out), *options]) == 0
    content = read_checkpoint(checkpoint(out))  # the tests store thresholds of their own
    write_checkpoint(checkpoint(out), {k: v for k, v in content.items() if not k.startswith("threshold")})
    return out


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy to be changed."""
    return shutil.copytree(trained, tmp_path / "out")


def checkpoint(out: Path) -> Path:
    return next(out.glob("runs/own_*/checkpoint.pth"))


def only(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found is not None
    return found[1]


def evaluated(report: Report) -> Evaluated:
    assert report.evaluated is not None
    return report.evaluated


def page_of(out: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[Page, str]:
    assert cli.main(["report", str(out), "--device", "cpu", *options]) == 0
    path = Path(only(r"report: (.+) \(", capsys.readouterr().out))
    text = path.read_text(encoding="utf-8")
    return Page(text), text


def test_the_page_holds_everything_and_asks_for_nothing(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, text = page_of(run, capsys)
    misses, alarms = text.split("Good images with the highest scores")
    assert "the cyan line is the ground truth" in misses
    assert "cyan" not in only(r"^([^.]*\.)", alarms)  # good images have none
    assert not page.all("link")
    assert not any("src" in script for script in page.all("script"))
    assert not re.search(r"https?://|url\(|@import|href=", text)
    assert "default-src 'none'" in text
    assert all((image["src"] or "").startswith("data:image/jpeg;base64,") and image["alt"] for image in page.all("img"))
    assert len(text) < 2_000_000
    record = json.loads(find_run(run).read_text())
    for fact in (
        record["hash"],
        record["data"]["index_hash"],
        record["encoder"]["sha256"],
        hashlib.sha256(checkpoint(run).read_bytes()).hexdigest(),
        f"{record['metrics']['exact']['mean']['mad']:.2f}",
        "agree with the record",
        "without a loss",
        "No threshold is stored",
    ):
        assert fact in page.text, fact
    assert str(run.parent) not in text
    assert len([a for a in page.all("figure") if a.get("class") == "mb-chart"]) == 5


def test_without_a_script_the_numbers_at_the_threshold_are_there(
    run: Path, drawn: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = evaluated(make_report(find_run(run), pictures=0)).categories[0]
    good = [s for s, sample in zip(scores.scores, scores.samples, strict=True) if not sample.is_defect]
    value = (sorted(good)[-1] + sorted(good)[-2]) / 2
    threshold = calibrate([value] * 3, 0.3, side=64)
    store_threshold(checkpoint(run), threshold)
    page, text = page_of(run, capsys)
    assert threshold.note in page.text
    low, high = beta.ppf(0.025, 1, len(good)), beta.ppf(0.975, 2, len(good) - 1)  # Clopper and Pearson, of one
    assert f"1 of {len(good)} good test images are above it" in page.text
    assert f"{100 * low:.1f} to {100 * high:.1f} %" in page.text
    assert f'data-label="false alarms">1 of {len(good)}<' in text
    missed = sum(s <= value for s, sample in zip(scores.scores, scores.samples, strict=True) if sample.is_defect)
    assert f'data-label="defects missed">{missed} of {len(scores.samples) - len(good)}<' in text
    data = json.loads(only(r'type="application/json">(.+?)</script>', text))
    assert data["columns"]["threshold"][data["start"]] == pytest.approx(value, rel=1e-5)
    assert {len(column) for column in data["columns"].values()} == {len(data["columns"]["threshold"])}
    assert [label for label, _ in data["marks"]] == ["stored threshold", "best balance here"]
    assert page.text.count("false alarm") > page.text.count("false alarms")  # the verdict under one picture


def test_a_score_within_rounding_of_the_threshold_is_no_false_alarm(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = evaluated(make_report(find_run(run), pictures=0)).categories[0]
    good = [s for s, sample in zip(scores.scores, scores.samples, strict=True) if not sample.is_defect]
    store_threshold(checkpoint(run), calibrate([max(good) * (1 - 1e-6)] * 3, 0.3, side=64))
    page, text = page_of(run, capsys)
    assert f"0 of {len(good)} good test images are above it" in page.text
    alarms = text.split("Good images with the highest scores")[1]
    assert only(r"<b>(.*?)</b>", alarms) == "passed"
    with open_browser(1400) as (browser, errors):  # the script judges as the page does without it
        browser.goto(next(run.glob("runs/own_*/report.html")).as_uri())
        shown = browser.locator("ul.grid li b").all_inner_texts()
        assert shown == re.findall(r"<b>(.*?)</b>", text)
        assert errors == []


def test_a_threshold_of_another_side_is_not_used_and_the_page_says_so(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store_threshold(checkpoint(run), calibrate([0.1] * 3, 0.3, side=96))
    page, _ = page_of(run, capsys)
    assert "A threshold in the checkpoint is not used here: the threshold is of side 96" in page.text
    assert "furthest apart, which flatters" in page.text


def test_worst_images_come_first_and_are_outlined(trained: Path) -> None:
    found = evaluated(make_report(find_run(trained), pictures=2))
    (result,) = found.categories
    scored = list(zip(result.scores, result.samples, strict=True))
    lowest = sorted(score for score, sample in scored if sample.is_defect)[:2]
    highest = sorted((score for score, sample in scored if not sample.is_defect), reverse=True)[:2]
    assert [p.score for p in found.misses] == pytest.approx(lowest)
    assert [p.score for p in found.false_alarms] == pytest.approx(highest)
    cyan = (0, 229, 255)
    for picture, outlined in ((found.misses[0], True), (found.false_alarms[0], False)):
        assert (np.asarray(picture.mixed) == cyan).all(axis=-1).any() == outlined


def test_a_record_of_another_checkpoint_is_told(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = find_run(run)
    record = json.loads(path.read_text())
    record["metrics"]["exact"]["categories"]["gear"]["pixel_ap"] -= 3
    path.write_text(json.dumps(record))
    page, _ = page_of(run, capsys)
    assert "it differs: pixel_ap of gear, protocol exact by 3" in page.text


def test_only_the_images_of_the_run_are_taken(run: Path, drawn: Path, tmp_path: Path) -> None:
    record = find_run(run)
    note = record.parent / record.stem / "data_root.txt"
    assert Path(note.read_text().strip()) == drawn.resolve()
    moved = shutil.copytree(drawn, tmp_path / "moved")
    assert make_report(record, moved, pictures=0).evaluated
    next((moved / "gear" / "test" / "good").glob("*.png")).unlink()
    with pytest.raises(DatasetError, match="index hash"):
        make_report(record, moved)
    note.write_text(str(tmp_path / "gone"))
    with pytest.raises(DatasetError, match=r"no longer there: name them with --data"):
        make_report(record)
    note.unlink()
    with pytest.raises(DatasetError, match=r"name them with --data"):
        make_report(record)


@pytest.mark.parametrize("name", [b"parts ", b"caf\xe9"], ids=["space at its end", "not UTF-8"])
def test_images_are_found_again_in_a_folder_of_any_name(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: bytes
) -> None:
    data = tmp_path / os.fsdecode(name)
    try:
        data.mkdir()
    except OSError:
        pytest.skip("this system has no such names")
    shutil.copytree(drawn / "gear", data / "gear")
    options = ["--method", "memory_bank", "--encoder-weights", "embedded", "--side", "64", "--device", "cpu"]
    assert cli.main(["train", "--data", str(data), "--out", str(tmp_path / "out"), *options]) == 0
    capsys.readouterr()
    assert make_report(find_run(tmp_path / "out"), pictures=0).evaluated
    note = find_run(tmp_path / "out").with_suffix("") / "data_root.txt"
    assert note.read_bytes() == os.fsencode(data.resolve()) + b"\n"


def test_a_run_is_found_or_asked_for(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DatasetError, match="holds no run"):
        find_run(tmp_path / "nowhere")
    record = find_run(run)
    other = record.with_name("own_0123456789ab.json")
    other.write_text(record.read_text())
    with pytest.raises(DatasetError, match=r"holds 2 runs: name one of them with --run"):
        find_run(run)
    assert find_run(run, "0123") == other
    assert cli.main(["report", str(run), "--run", "ffff"]) == 2
    assert "holds no run ffff" in capsys.readouterr().err
    assert cli.main(["report", str(run), "--pictures", "-1"]) == 2


def test_a_page_that_cannot_be_written_is_told_before_the_evaluation(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mambaad.inference.report.make_report", lambda *_, **__: pytest.fail("it began"))
    assert cli.main(["report", str(run), "--page", str(tmp_path)]) == 2
    assert "is a folder: name a file to write to (--page names the file)" in capsys.readouterr().err


def test_names_stay_text_and_a_run_without_test_images_has_a_page(
    run: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = find_run(run)
    found = make_report(record, pictures=1)
    script = "<script>alert(1)</script>"
    for picture in (*evaluated(found).misses, *evaluated(found).false_alarms):
        object.__setattr__(picture, "name", script)
    text = write_page(found, tmp_path / "r.html").read_text()
    assert script not in text
    assert script in Page(text).text
    content = json.loads(record.read_text())
    record.write_text(json.dumps({**content, "metrics": {}, "hash": script}))
    threshold = calibrate([0.1] * 3, 0.3, side=64)
    store_threshold(checkpoint(run), threshold, by_category={"gear": calibrate([9.0] * 9, 0.1, side=64)})
    page, text = page_of(run, capsys)
    assert "no test images" in page.text
    assert script not in text
    assert not page.all("img")
    assert f"The checkpoint's {threshold.note}." in page.text
    assert "gear: threshold 9 from 9 good images" in page.text


@pytest.mark.parametrize(("side", "defect"), [(300, 3), (2700, 1)])
def test_masks_larger_than_the_picture_keep_their_small_defects(side: int, defect: int) -> None:
    from mambaad.inference.report_pictures import outlined

    mask = np.zeros((side, side), dtype=bool)
    mask[side // 2 : side // 2 + defect, side // 2 : side // 2 + defect] = True
    drawn = np.asarray(outlined(Image.new("RGB", (100, 100)), mask))
    assert drawn.any()


@pytest.mark.parametrize("width", [390, 1400])
def test_in_a_browser_keys_move_the_threshold_through_the_page(
    run: Path, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    _, text = page_of(run, capsys)
    data = json.loads(only(r'type="application/json">(.+?)</script>', text))
    columns = data["columns"]
    assert columns["threshold"][-1] >= max(float(score) for score in re.findall(r'data-score="([^"]+)"', text))
    file = next(run.glob("runs/own_*/report.html"))
    with open_browser(width) as (page, errors):
        page.goto(file.as_uri())
        assert not wider_than_its_window(page)
        slider, cell = page.locator(".mb-bar input"), page.locator('[data-column="good_above"]')
        assert int(slider.input_value()) == data["start"]
        dot = page.locator('.mb-dot[data-y="image_recall"]')
        for key, row in (("Home", 0), ("ArrowRight", 1), ("End", len(columns["threshold"]) - 1)):
            slider.press(key)
            assert cell.inner_text() == f"{columns['good_above'][row]} of {cell.get_attribute('data-of')}"
            assert float(dot.get_attribute("cy") or "nan") == pytest.approx(100 - 100 * columns["image_recall"][row])
        # nothing is above the highest threshold
        assert set(page.locator("ul.grid li b").all_inner_texts()) == {"missed", "passed"}
        page.locator(".mb-bar button").first.click()
        assert int(slider.input_value()) == data["start"]
        divider = page.locator(".mb-compare input").first
        divider.press("Home")
        assert divider.input_value() == "0"
        assert errors == []

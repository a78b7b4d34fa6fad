"""The page to try a model: its answers, what it refuses and how, that it writes nothing, and once in a real browser."""

import base64
import io
import os
import re
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import open_browser, wider_than_its_window
from PIL import Image
from small_model import small
from starlette.testclient import TestClient

import mambaad
from mambaad import cli
from mambaad.data.transforms import load_image
from mambaad.inference import serve as serve_module
from mambaad.inference.serve import Served, listen, make_app
from mambaad.inference.threshold import Threshold, store_threshold

ADDRESS = "http://127.0.0.1"


@pytest.fixture(scope="module")
def served() -> Served:
    torch.manual_seed(1)
    return Served(small(scan="sweep", directions=2).eval(), 64, {}, torch.device("cpu"), "a <small> network")


def client(served: Served, **options: Any) -> TestClient:
    return TestClient(make_app(served, **options), base_url=ADDRESS)


def file(size: tuple[int, int] = (90, 60), kind: str = "PNG", mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


@pytest.mark.parametrize(
    ("kind", "mode"), [("PNG", "RGB"), ("JPEG", "L"), ("BMP", "RGB"), ("TIFF", "CMYK"), ("PNG", "P"), ("WEBP", "RGB")]
)
def test_an_image_gets_the_score_of_predict_and_two_pictures(
    served: Served, tmp_path: Path, kind: str, mode: str
) -> None:
    content = file(kind=kind, mode=mode)
    answer = client(served).post("/score", content=content)
    found = answer.json()
    assert answer.status_code == 200
    path = tmp_path / "image"
    path.write_bytes(content)
    config = served.model.config
    wanted = served.model.predict(load_image(path, 64, config.mean, config.std)[None]).score
    assert found["score"] == pytest.approx(float(wanted))
    assert (found["width"], found["height"]) == (90, 60)
    assert (found["verdict"], found["threshold"]) == (None, None)
    for name in ("image", "overlay"):
        assert decoded(found[name]).size == (90, 60)


def test_the_verdict_follows_the_threshold_of_the_category(served: Served) -> None:
    score = client(served).post("/score", content=file()).json()["score"]
    below, above = Threshold.given(score * 0.9, 64), Threshold.given(score * 1.1, 64)
    answers = client(replace(served, thresholds={"": below, "screw": above}))
    assert answers.post("/score", content=file()).json()["verdict"] == "not OK"
    assert answers.post("/score?category=screw", content=file()).json()["verdict"] == "OK"
    at_it = client(replace(served, thresholds={"": Threshold.given(score, 64)}))
    assert at_it.post("/score", content=file()).json()["verdict"] == "OK"
    refused = answers.post("/score?category=nut", content=file())
    assert refused.status_code == 400
    assert refused.json()["error"] == "there is no threshold of the category 'nut': known are screw"


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b"", 400, "there was no image"),
        (b"%PDF-1.7 not an image", 415, "the file is not an image; PNG, JPEG, BMP, TIFF or WebP is expected"),
        (file(kind="EPS"), 415, "the file is not an image; PNG, JPEG, BMP, TIFF or WebP is expected"),
        (file(size=(200, 200))[:5000], 415, "the file cannot be read as an image"),
        (b"x" * 50_001, 413, "the file is larger than the 0.0476837 MiB allowed"),
    ],
    ids=["empty", "not an image", "a program for Ghostscript", "cut off", "too large"],
)
def test_what_is_no_image_ends_in_one_sentence(served: Served, content: bytes, status: int, message: str) -> None:
    answer = client(served, largest_bytes=50_000).post("/score", content=content)
    assert answer.status_code == status
    assert message in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_a_form_is_told_how_to_send_an_image(served: Served) -> None:
    answer = client(served).post("/score", files={"file": ("photo.png", file())})
    assert answer.status_code == 415
    assert "send the image itself (curl --data-binary @photo.png)" in answer.json()["error"]


def test_a_body_without_a_declared_length_is_read_no_further_than_allowed(served: Served) -> None:
    sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield b"x" * 1000

    answer = client(served, largest_bytes=5000).post("/score", content=pieces())
    assert answer.status_code == 413


def test_many_pixels_are_refused_by_the_header(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_module, "LARGEST_PIXELS", 90 * 60 - 1)
    answer = client(served).post("/score", content=file())
    assert answer.status_code == 415
    assert "90 x 60 pixels are more than" in answer.json()["error"]
    bomb = bytearray(file(kind="BMP"))
    bomb[18:26] = (60_000).to_bytes(4, "little") * 2  # width and height of the header
    assert "megapixels allowed" in client(served).post("/score", content=bytes(bomb)).json()["error"]


def test_other_sites_and_other_names_are_refused(served: Served) -> None:
    answers = client(served)
    foreign = answers.post("/score", content=file(), headers={"sec-fetch-site": "cross-site"})
    assert (foreign.status_code, "own page" in foreign.json()["error"]) == (403, True)
    assert answers.get("/", headers={"host": "evil.example"}).status_code == 400
    assert client(served, hosts=("*",)).get("/", headers={"host": "line-3.example"}).status_code == 200
    assert answers.get("/score").status_code == 405
    assert answers.get("/nothing").status_code == 404
    assert answers.get("/favicon.ico").status_code == 204


def test_the_page_asks_only_its_own_server_and_names_stay_text(served: Served) -> None:
    name = "</script><script>alert(1)"
    one = client(replace(served, thresholds={name: Threshold.given(0.1, 64)})).get("/").text
    assert not re.search(r"https?://(?!127\.0\.0\.1)|url\(|@import", one)
    assert "default-src 'none'" in one
    assert "connect-src 'self'" in one
    assert "a &lt;small&gt; network" in one
    assert name not in one
    assert "<select" not in one
    two = (
        client(replace(served, thresholds={"a": Threshold.given(0.1, 64), "b": Threshold.given(0.2, 64)})).get("/").text
    )
    assert two.count("<option>") == 2
    assert "No threshold is stored" in client(served).get("/").text


def test_nothing_is_written(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert client(served).post("/score", content=file(size=(1200, 900))).status_code == 200
    assert not list(tmp_path.iterdir())


def test_a_damaged_checkpoint_and_a_threshold_of_another_side_are_told(served: Served) -> None:
    with pytest.raises(ValueError, match="use --side 96"):
        make_app(replace(served, thresholds={"": Threshold.given(0.1, 96)}))
    broken = small(scan="sweep", directions=2).eval()
    broken.decoder.get_parameter("stages.0.0.merge.weight").data.fill_(float("nan"))
    answer = client(replace(served, model=broken)).post("/score", content=file())
    assert (answer.status_code, "the checkpoint is damaged" in answer.json()["error"]) == (500, True)


# -- the command
@pytest.fixture(scope="module")
def checkpoint(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "c.pth"
    mambaad.save_checkpoint(path, served.model, {"run": {"data": {"side": 64}}})
    store_threshold(path, Threshold(value=0.0, rate=0.1, supported_rate=0.1, images=9, side=64, median=0.0))
    return path


def test_a_taken_port_and_a_missing_package_end_in_one_sentence(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        assert cli.main(["serve", "--weights", str(checkpoint), "--port", port, "--device", "cpu"]) == 2
    assert f"127.0.0.1:{port} cannot be listened on" in capsys.readouterr().err
    assert cli.main(["serve", "--weights", str(checkpoint), "--port", "99999", "--device", "cpu"]) == 2
    assert "the port must be from 0 to 65535, got 99999" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"'\\udcff' is no name of a host"):
        listen("\udcff", 0)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert cli.main(["serve", "--weights", str(checkpoint)]) == 2
    assert "pip install 'mambaad[serve]'" in capsys.readouterr().err


def test_the_command_serves_until_it_is_interrupted(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import httpx2

    # a shell starts what runs in the background with SIGINT ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    answers = []

    def ask_then_interrupt() -> None:
        try:
            with httpx2.Client(transport=httpx2.HTTPTransport(retries=8), timeout=60) as ask:
                answers.append(ask.post(f"{ADDRESS}:{port}/score", content=file()).json())
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    asking = threading.Thread(target=ask_then_interrupt)
    asking.start()
    try:
        code = cli.main(["serve", "--weights", str(checkpoint), "--port", str(port), "--device", "cpu"])
    finally:
        asking.join()
        signal.signal(signal.SIGINT, before)
    assert code == 0
    assert answers[0]["verdict"] == "not OK"
    assert f"open {ADDRESS}:{port}" in capsys.readouterr().out


def test_the_loopback_address_of_ipv6_is_this_machine_alone(
    served: Served, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert client(served).get("/", headers={"host": "[::1]:8000"}).status_code == 200
    assert client(served).get("/", headers={"host": "[fe80::1]:8000"}).status_code == 400
    monkeypatch.setattr(serve_module, "listen", lambda host, port: listen("127.0.0.1", port))  # not all have IPv6
    monkeypatch.setattr(serve_module, "serve", lambda app, opened: None)
    assert cli.main(["serve", "--weights", str(checkpoint), "--host", "::1", "--port", "0", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"open http://\[::1\]:\d+ \(Ctrl-C", said)
    assert "everyone" not in said


# -- a browser
@pytest.mark.parametrize("width", [390, 1400])
def test_in_a_browser_an_image_gets_a_verdict_and_a_divider_that_keys_move(
    width: int, served: Served, tmp_path: Path
) -> None:
    good, bad = tmp_path / "photo.png", tmp_path / "notes.txt"
    good.write_bytes(file())
    bad.write_text("no image")
    app = make_app(replace(served, thresholds={"": Threshold.given(0.0, 64)}))
    with listen("127.0.0.1", 0) as opened, open_browser(width) as (page, errors):
        stop = threading.Event()
        server = threading.Thread(target=_until, args=(app, opened, stop))
        server.start()
        try:
            page.goto(f"{ADDRESS}:{opened.getsockname()[1]}/")
            page.locator("#file").set_input_files([good, bad])
            answers = page.locator("#results > li")
            answers.nth(1).wait_for()
            refused, scored = answers.nth(0), answers.nth(1)
            assert scored.locator("h2").inner_text() == "not OK"
            assert "notes.txt: the file is not an image" in refused.inner_text()
            divider = scored.locator("input[type=range]")
            divider.press("ArrowRight")
            assert divider.input_value() == "51"
            pictures = scored.locator("img")
            assert pictures.evaluate_all("pictures => pictures.map((p) => p.naturalWidth)") == [90, 90]
            assert "51%" in pictures.nth(1).evaluate("picture => getComputedStyle(picture).clipPath")
            assert not wider_than_its_window(page)
            assert [error for error in errors if "415" not in error] == []
        finally:
            stop.set()
            server.join()


def _until(app: Any, opened: socket.socket, stop: threading.Event) -> None:
    """`serve` in a thread, ended by an event instead of a signal."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))

    def end() -> None:
        stop.wait()
        server.should_exit = True

    waiting = threading.Thread(target=end)
    waiting.start()
    server.run(sockets=[opened])
    waiting.join()

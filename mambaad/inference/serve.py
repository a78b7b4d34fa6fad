"""A small web page to try a model: drop an image, see its map, score and verdict.

One page and one address that takes an image and answers with JSON. Images stay in memory: nothing is written.
"""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import torch
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from mambaad.baselines import Method
from mambaad.data import DatasetError
from mambaad.data.pixels import decode_rgb, resize_rgb
from mambaad.data.transforms import normalise
from mambaad.inference.gallery import colour_scale, overlay
from mambaad.inference.pages import asset, data_uri, foot, head, thumbnail
from mambaad.inference.threshold import Threshold
from mambaad.model import check_side

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Addresses that this machine alone reaches."""
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]", "[")
"""How requests name them: an address with colons in brackets, of which older versions of Starlette see the first. No
name that another site could have begins with one."""
LARGEST_BYTES = 20 * 2**20
LARGEST_PIXELS = 50_000_000
PICTURE = 1024  # pixels on the long side of the answer


class Refused(ValueError):
    """A request that is not answered; the message is for the person who made it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Served:
    """A model and what is needed to judge its scores."""

    model: Method
    side: int
    thresholds: Mapping[str, Threshold]
    """By category; under "" one that holds for all of them."""
    device: torch.device
    about: str
    """Which checkpoint this is, in a line."""


def make_app(
    served: Served, *, hosts: tuple[str, ...] = LOOPBACK_NAMES, largest_bytes: int = LARGEST_BYTES
) -> Starlette:
    """The page as an ASGI application.

    Args:
        hosts: names by which it may be asked; others are refused, so that no foreign page reaches it by a name of its
            own that points here. "*" for any.
        largest_bytes: of an image file.

    Raises:
        ValueError: a side the scan order cannot fill, or that a threshold is not of.
    """
    check_side(served.model.config, served.side, served.side)
    for threshold in served.thresholds.values():
        threshold.check_side(served.side)
    served.model.to(served.device).eval()
    one_at_a_time = threading.Lock()
    page = _page(served, largest_bytes)

    async def show(request: Request) -> Response:
        return HTMLResponse(page)

    async def score(request: Request) -> Response:
        try:
            # browsers say where a request comes from; another site's page must not make this machine work
            if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
                raise Refused(403, "images are taken from this server's own page only")
            content = await _body(request, largest_bytes)
            category = request.query_params.get("category", "")
            threshold = _threshold(served, category)
            return JSONResponse(await run_in_threadpool(work, content, threshold))
        except Refused as refusal:
            return JSONResponse({"error": str(refusal)}, status_code=refusal.status)

    def work(content: bytes, threshold: Threshold | None) -> dict[str, Any]:
        with one_at_a_time:
            return judge(served, content, threshold)

    return Starlette(
        routes=[
            Route("/", show),
            Route("/score", score, methods=["POST"]),
            Route("/favicon.ico", lambda request: Response(status_code=204)),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)],
    )


async def _body(request: Request, largest: int) -> bytes:
    """The request's content, read no further than allowed."""
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise Refused(415, "the request holds a form: send the image itself (curl --data-binary @photo.png)")
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > largest:
        raise Refused(413, _too_large(largest))
    content = bytearray()
    try:
        async for piece in request.stream():
            content += piece
            if len(content) > largest:
                raise Refused(413, _too_large(largest))
    except ClientDisconnect:
        raise Refused(400, "the connection ended before the image was complete") from None
    if not content:
        raise Refused(400, "there was no image in the request: choose a file")
    return bytes(content)


def _threshold(served: Served, category: str) -> Threshold | None:
    if category and category not in served.thresholds:
        known = ", ".join(name for name in served.thresholds if name) or "none"
        raise Refused(400, f"there is no threshold of the category {category!r}: known are {known}")
    return served.thresholds.get(category)


def judge(served: Served, content: bytes, threshold: Threshold | None) -> dict[str, Any]:
    """Score, verdict and pictures of one image file's content, as plain values.

    Raises:
        Refused: not an image, too many pixels, or a score that is not finite.
    """
    started = time.perf_counter()
    try:
        image = decode_rgb(content, "the file", LARGEST_PIXELS)
    except DatasetError as error:
        raise Refused(415, str(error).replace("the file: ", "the file ", 1)) from error
    tensor = normalise(resize_rgb(image, served.side), served.model.config.mean, served.model.config.std)
    prediction = served.model.predict(tensor[None].to(served.device))
    anomaly_map, score = prediction.anomaly_map[0].float().cpu().numpy(), float(prediction.score[0])
    if not math.isfinite(score):
        raise Refused(500, f"the score is {score}: the checkpoint is damaged, serve another one")
    seconds = time.perf_counter() - started
    shown = thumbnail(image, PICTURE)
    low, high = colour_scale([score], None if threshold is None else threshold.value)
    return {
        "score": score,
        "verdict": None if threshold is None else "not OK" if threshold.exceeded_by(score) else "OK",
        "threshold": None if threshold is None else threshold.value,
        "width": image.width,
        "height": image.height,
        "milliseconds": round(1000 * seconds),
        "image": data_uri(shown, quality=88),
        "overlay": data_uri(overlay(shown, anomaly_map, low, high), quality=88),
    }


def _page(served: Served, largest_bytes: int) -> str:
    categories = [name for name in served.thresholds if name]
    choice = ""
    if len(categories) > 1:
        options = "".join(f"<option>{escape(name)}</option>" for name in categories)
        whole = '<option value="">any category</option>' if "" in served.thresholds else ""
        choice = f'<label class="choice">Category <select id="category">{whole}{options}</select></label>'
    if served.thresholds:
        notes = "".join(
            f"<li>{escape(f'{name}: ' if name else '')}{escape(threshold.note)}</li>"
            for name, threshold in served.thresholds.items()
        )
    else:
        notes = (
            "<li>No threshold is stored in the checkpoint, so there is a score but no verdict, and the colours of each "
            "map run from half its own highest value to that value: mambaad calibrate sets a threshold.</li>"
        )
    known = {
        "fallback": categories[0] if len(categories) == 1 and "" not in served.thresholds else "",
        "largest": largest_bytes,
        "tooLarge": _too_large(largest_bytes),
    }
    limits = f"up to {largest_bytes / 2**20:g} MiB and {LARGEST_PIXELS / 1e6:g} megapixels"
    return (
        head("Try a model", asset("serve.css"), ";connect-src 'self'")
        + f"""<h1>Try a model</h1><p class="note">{escape(served.about)}</p>
<noscript><p class="error">This page needs JavaScript. Without it: curl --data-binary @photo.png
http://127.0.0.1:8000/score, with the address of this page.</p></noscript>
{choice}<input id="file" type="file" accept="image/*" multiple>
<label for="file" id="drop"><b>Drop images here</b><span>or choose files, or paste one. PNG, JPEG, BMP, TIFF or WebP,
{limits}. They are kept in memory only; nothing is stored.</span></label>
<p id="status" role="status"></p><ol id="results"></ol>
<details><summary>About the verdict</summary><ul class="note">{notes}</ul></details>
"""
        + foot(f"const served={json.dumps(known).replace('<', chr(92) + 'u003c')};{asset('serve.js')}")
    )


def _too_large(largest: int) -> str:
    return f"the file is larger than the {largest / 2**20:g} MiB allowed: make the image smaller"


def address(host: str, port: int) -> str:
    """Both as they stand in a URL.

    Example:
        >>> address("::1", 8000)
        '[::1]:8000'
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.  Raises ValueError if the address cannot be had."""
    if not 0 <= port <= 65535:
        raise ValueError(f"the port must be from 0 to 65535, got {port}")
    try:
        host.encode("idna")  # or the socket opened for it would not be closed
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except UnicodeError as error:
        raise ValueError(f"{host!r} is no name of a host: choose another --host") from error
    except OSError as error:
        reason = error.strerror or error
        where = address(host, port)
        raise ValueError(f"{where} cannot be listened on ({reason}): choose another --port or --host") from error


def serve(app: Starlette, opened: socket.socket) -> None:
    """Answer requests until Ctrl-C or SIGTERM, which are raised again once the server has ended."""
    import uvicorn

    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, lifespan="off")
    uvicorn.Server(config).run(sockets=[opened])

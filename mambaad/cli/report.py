"""`mambaad report` and `mambaad serve`: a run and its checkpoint to look at in a browser."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path

from mambaad.cli.options import SIDE, WEIGHTS, AddCommand, device_options, set_threads


def add(command: AddCommand) -> None:
    """Add both commands."""
    report = command("report", _report, "one HTML page of a run: curves, thresholds, worst misses and false alarms")
    report.add_argument("out", type=Path, help="folder that was --out of mambaad train")
    report.add_argument(
        "--run", dest="run_hash", help="first digits of the run's hash (needed where the folder holds several runs)"
    )
    report.add_argument("--data", type=Path, help="root folder of the images (not given: where they lay in training)")
    report.add_argument("--page", type=Path, help="HTML file to write (not given: report.html beside the checkpoint)")
    report.add_argument("--pictures", type=int, default=8, help="misses and false alarms to show, so many of each")
    device_options(report)

    serve = command(
        "serve", _serve, "a web page on this machine to try a model: drop an image, see its map and verdict"
    )
    serve.add_argument("--weights", required=True, help=WEIGHTS)
    serve.add_argument("--side", type=int, help=SIDE)
    serve.add_argument("--threshold", type=float, help="score above which an image is not OK (not given: stored)")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 lets other machines in")
    serve.add_argument("--port", type=int, default=8000, help="port to listen on; 0 takes a free one")
    device_options(serve)


def _report(arguments: argparse.Namespace) -> int:
    from mambaad.engine.execution import Execution
    from mambaad.files import check_output
    from mambaad.inference.report import find_run, make_report
    from mambaad.inference.report_page import write_page

    if arguments.pictures < 0:
        raise ValueError(f"--pictures must be 0 or more, got {arguments.pictures}")
    record = find_run(arguments.out, arguments.run_hash)
    page = arguments.page or record.parent / record.stem / "report.html"
    try:
        check_output(page)
    except ValueError as error:
        raise ValueError(f"{error} (--page names the file)") from error
    found = make_report(
        record,
        arguments.data,
        pictures=arguments.pictures,
        execution=Execution(device=arguments.device, threads=arguments.threads),
    )
    write_page(found, page)
    print(f"report: {page} ({page.stat().st_size / 1e6:.1f} MB)")
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ValueError(f"{error.name} is not installed: pip install 'mambaad[serve]'") from error

    from mambaad.baselines import load_method
    from mambaad.device import resolve_device
    from mambaad.inference.pages import method_title
    from mambaad.inference.report import all_thresholds
    from mambaad.inference.serve import LOOPBACK, LOOPBACK_NAMES, Served, address, listen, make_app, serve
    from mambaad.inference.threshold import Threshold, stored_side
    from mambaad.inference.weights_hub import resolve, sha256
    from mambaad.model.checkpoint import read_checkpoint

    set_threads(arguments)
    path = resolve(arguments.weights)
    content = read_checkpoint(path)
    side = stored_side(content) if arguments.side is None else arguments.side
    thresholds = all_thresholds(content)
    if arguments.threshold is not None:
        thresholds = {"": Threshold.given(arguments.threshold, side)}
    model = load_method(content)
    about = f"{method_title(model.config)} at {side} × {side} pixels, checkpoint sha256 {sha256(path)[:12]}"
    local = arguments.host in LOOPBACK
    served = Served(model, side, thresholds, resolve_device(arguments.device), about)
    app = make_app(served, hosts=LOOPBACK_NAMES if local else ("*",))
    with listen(arguments.host, arguments.port) as opened:
        print(f"open http://{address(arguments.host, opened.getsockname()[1])} (Ctrl-C ends it)", flush=True)
        if not local:
            print("everyone who reaches this address can send images", flush=True)
        with suppress(KeyboardInterrupt):  # it has no other end
            serve(app, opened)
    return 0

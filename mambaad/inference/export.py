"""A checkpoint as one graph for other runtimes: image in, anomaly map, score and verdict out, with the evidence beside.

The graph holds everything from normalisation to the smoothed map, the score and the threshold, for one image side and
any batch. MambaAD's scan is ONNX's operator Scan, is written out without loops, or is an operator of its own in a
library beside the graph.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from mambaad.baselines import Method
from mambaad.config import method_of
from mambaad.engine.environment import environment
from mambaad.files import atomic_path, write_json
from mambaad.inference.graph import Whole, traced
from mambaad.inference.onnx_graph import label, with_scans
from mambaad.inference.weights_hub import sha256
from mambaad.model import check_side
from mambaad.ops.routed_scan import unavailable
from mambaad.ops.routed_scan.native import library_path

FORMATS = {"onnx": ".onnx", "onnx_native": ".onnx", "onnx_unrolled": ".onnx", "torch": ".pt2"}
"""Formats and the suffixes of their files: ONNX with its operator Scan, with the compiled scan, for runtimes without
either, and torch.export."""
SCANS = {"onnx": "onnx", "onnx_native": "onnx_native", "onnx_unrolled": "exportable", "torch": "exportable"}
"""Backends of the scan in the graphs."""
LIBRARY = "routed_scan.so"
"""Library of the compiled scan, beside a graph of the format onnx_native."""
OPSET = 18
TOLERANCE = 5e-5
"""Largest difference accepted between a graph and PyTorch, relative to the largest value of each array: some ten times
what float32 rounding makes through all layers. A wrong scan is off by 1e-2 and more in the decoder's features, but may
hardly show in maps and scores: so the features are compared, too."""
NEEDED_TORCH = (2, 8)
"""Everything else of the library runs with it."""
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INPUT, OUTPUTS = "images", ("anomaly_map", "score")
VERDICT = "anomalous"
"""Third output of a graph that holds a threshold: whether the score is above it by more than rounding."""
FEATURES = ("decoder_4", "decoder_8", "decoder_16")  # the decoder's features at these strides
RUNNER = Path(__file__).with_name("run_onnx.py")
"""Script that runs a graph without torch and without this package."""
ARRAYS = Path(__file__).with_name("run_onnx_arrays.py")
"""A shorter one, of arrays in place of image files."""
REPEATS = 5

Run = Callable[[Tensor], tuple[Tensor, ...]]


class ExportError(ValueError):
    """A graph could not be made, or does not compute what PyTorch computes; nothing was written."""


def export(
    model: Method,
    path: str | Path,
    images: Tensor,
    *,
    format: str = "onnx",
    threshold: float | None = None,
    facts: Mapping[str, Any] | None = None,
    repeats: int = REPEATS,
) -> dict[str, Any]:
    """Write the graph of a model of any method and, beside it, its record `<path>.json`; return the record.

    The written file is loaded again and run on the CPU, for ONNX by onnxruntime, on all images at once and on the
    first alone, before both files are put in place.

    Args:
        model: left as it is.
        path: the file to write.
        images: what is compared, at least 2: RGB as uint8, (B, S, S, 3), or as float in 0..1, (B, 3, S, S). The graph
            takes images of this kind and of the side S alone.
        format: "onnx"; "onnx_native", which onnxruntime runs as fast as PyTorch does, on processors like this one,
            with the library `LIBRARY` that is written beside, too; "onnx_unrolled", with the scan written out for
            runtimes without the operator Scan, slower in onnxruntime; or "torch" (torch.export).
        threshold: scores above it by more than rounding are anomalous; the graph then has a third output that says so.
        facts: what else belongs into the record; plain values.
        repeats: timed calls of PyTorch and of the graph, one image each, in turn; 0 times nothing.

    Raises:
        ValueError: unknown format, images of another shape, a side that the scan order cannot fill.
        ExportError: packages or the compiled scan missing, or a torch that is too old; a method that cannot be traced
            for any batch; the graph differs from PyTorch by more than `TOLERANCE`.
    """
    path = Path(path)
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    bytewise = images.dtype == torch.uint8
    channels = 3 if bytewise else 1
    if (
        images.dim() != 4
        or images.shape[channels] != 3
        or len(images) < 2
        or not (bytewise or images.is_floating_point())
    ):
        raise ValueError(
            "images must be uint8, (B, S, S, 3), or float, (B, 3, S, S), with B of 2 or more; "
            f"got {images.dtype}, {tuple(images.shape)}"
        )
    height, width = images.shape[1:3] if bytewise else images.shape[2:]
    check_side(model.config, height, width)
    _check_torch()
    as_onnx = format != "torch"
    if as_onnx:
        _check_packages()
    library = None
    if format == "onnx_native" and hasattr(model, "set_scan_backend"):
        if (reason := unavailable("native")) is not None:
            raise ExportError(reason)
        library = library_path()
    images = images.detach().to("cpu", torch.uint8 if bytewise else torch.float32)
    facts = {**(facts or {}), **({} if threshold is None else {"threshold": threshold})}
    with torch.inference_mode():
        reference = Whole(model, features=True)
        wanted = _named(reference(images))
    with atomic_path(path, suffix=FORMATS[format]) as temporary:
        try:
            program = traced(model, images, backend=SCANS[format], features=as_onnx, threshold=threshold)
        except Exception as error:  # torch's tracer fails in many ways where a number of images is fixed in the code
            raise ExportError(
                f"the method {method_of(model.config)!r} cannot be written as one graph for any number of images: "
                f"{' '.join(str(error).split())[:200]}"
            ) from error
        if as_onnx:
            extra = FEATURES if reference.features else ()
            outputs = (*OUTPUTS, *(() if threshold is None else (VERDICT,)))
            _write_onnx(program, temporary, (*outputs, *extra), height, facts)
            features = _differences(_onnxruntime(temporary, (*OUTPUTS, *extra), library), images, wanted)
            _drop_features(temporary, len(outputs))
            run = _onnxruntime(temporary, OUTPUTS, library)
        else:
            features = _differences(Whole(model, "exportable", features=True), images, wanted)
            torch.export.save(program, temporary)
            loaded = torch.export.load(temporary).module()
            run = lambda given: loaded(given)[: len(OUTPUTS)]  # noqa: E731
        plain = {name: wanted[name] for name in OUTPUTS}
        differences = features | _differences(run, images, plain)
        first = {name: array[:1] for name, array in plain.items()}
        differences |= _differences(run, images[:1], first, differences)
        milliseconds = _timed(Whole(model), run, images[:1], repeats) if repeats else {}
        record = {
            "format": format,
            "file": path.name,
            "sha256": sha256(temporary),
            "bytes": temporary.stat().st_size,
            "opset": OPSET if as_onnx else None,
            "library": None if library is None else {"file": LIBRARY, "sha256": sha256(library)},
            "input": {
                INPUT: ["batch", *images.shape[1:]],
                "values": "RGB, 0 to 255, uint8" if bytewise else "RGB, 0 to 1, float32",
            },
            "outputs": {OUTPUTS[0]: ["batch", height, width], OUTPUTS[1]: ["batch"]}
            | ({} if threshold is None else {VERDICT: ["batch"]}),
            **facts,
            "compared": {
                "images": len(images),
                "batches": [1, len(images)],
                "largest_map_value": wanted[OUTPUTS[0]].abs().max().item(),
                "max_difference_map": differences["anomaly_map"][0],
                "max_difference_score": differences["score"][0],
                "max_relative_difference": {name: relative for name, (_, relative) in differences.items()},
                "tolerance": TOLERANCE,
            },
            "milliseconds_per_image": milliseconds,
            "environment": environment("cpu") | {"export_packages": {name: _version(name) for name in PACKAGES}},
        }
        if library is not None:
            with atomic_path(path.with_name(LIBRARY)) as beside:
                shutil.copyfile(library, beside)
    write_json(path.with_name(path.name + ".json"), record)
    return record


def _named(outputs: Sequence[Tensor]) -> dict[str, Tensor]:
    return dict(zip((*OUTPUTS, *FEATURES), outputs, strict=False))


def _write_onnx(
    program: torch.export.ExportedProgram, path: Path, outputs: Sequence[str], side: int, facts: Mapping[str, Any]
) -> None:
    import onnx
    from onnxscript import optimizer

    exported = torch.onnx.export(
        program,
        dynamo=True,
        input_names=[INPUT],
        output_names=list(outputs),
        opset_version=OPSET,
        verbose=False,
        optimize=False,  # runtimes optimise by themselves
    )
    assert exported is not None
    optimizer.fold_constants(exported.model)
    optimizer.remove_unused_nodes(exported.model)
    proto = exported.model_proto
    with_scans(proto)
    label(proto, side, facts)
    onnx.checker.check_model(proto)
    onnx.save_model(proto, path)


def _drop_features(path: Path, outputs: int) -> None:
    import onnx

    proto = onnx.load(path)
    del proto.graph.output[outputs:]
    onnx.checker.check_model(proto)
    onnx.save_model(proto, path)


def _onnxruntime(path: Path, outputs: Sequence[str], library: Path | None) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    if library is not None:
        options.register_custom_ops_library(str(library))
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> tuple[Tensor, ...]:
        return tuple(map(torch.from_numpy, session.run(list(outputs), {INPUT: images.numpy()})))

    return run


def _differences(
    run: Run, images: Tensor, wanted: Mapping[str, Tensor], worst: Mapping[str, tuple[float, float]] | None = None
) -> dict[str, tuple[float, float]]:
    """Largest difference of each output, absolute and relative to its largest value, and those of `worst` if larger."""
    found = {}
    with torch.inference_mode():
        got = run(images)
    for (name, b), a in zip(wanted.items(), got, strict=True):
        largest = b.abs().max().item()
        difference = (a - b).abs().max().item()
        # written so that NaN is refused, too
        if a.shape != b.shape or not difference <= TOLERANCE * largest:
            raise ExportError(
                f"{name} of the exported graph differs from PyTorch by {difference:.2g} for {len(images)} images, more "
                f"than {TOLERANCE:g} of its largest value {largest:.3g}: nothing was written; try other versions of "
                "torch and onnxruntime"
            )
        found[name] = max((difference, difference / max(largest, 1e-30)), (worst or {}).get(name, (0.0, 0.0)))
    return found


def _timed(plain: Run, run: Run, image: Tensor, repeats: int) -> dict[str, Any]:
    """Medians of calls that alternate, so that a change of the machine's clock or load meets both."""
    times: dict[str, list[float]] = {"pytorch": [], "exported": []}
    with torch.inference_mode():
        for repeat in range(repeats + 1):
            for name, call in (("pytorch", plain), ("exported", run)):
                started = time.perf_counter()
                call(image)
                if repeat:  # the first call of each warms up
                    times[name].append(1000 * (time.perf_counter() - started))
    return {name: median(values) for name, values in times.items()} | {
        "repeats": repeats,
        "threads": torch.get_num_threads(),
    }


def _check_torch() -> None:
    if not fits():
        needed = ".".join(map(str, NEEDED_TORCH))
        raise ExportError(f"torch {torch.__version__} cannot export these graphs: install torch {needed} or newer")


def fits() -> bool:
    """Whether this torch can export the graphs."""
    return tuple(int(part) for part in torch.__version__.split(".")[:2]) >= NEEDED_TORCH


def _check_packages() -> None:
    missing = [name for name in PACKAGES if _version(name) == "not installed"]
    if missing:
        raise ExportError(
            f"export to ONNX needs the packages {', '.join(PACKAGES)}; {', '.join(missing)} not installed: "
            "pip install 'mambaad[export]'"
        )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"

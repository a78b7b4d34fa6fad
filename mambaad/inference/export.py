"""A checkpoint as one graph for other runtimes: image in, anomaly map and score out, with the evidence beside it.

The graph holds everything from normalisation to the smoothed map and the score. Its scan is written out without loops
(`mambaad.ops.selective_scan.exportable`), for one image side and any batch.
"""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from mambaad.engine.environment import environment
from mambaad.files import atomic_path, write_json
from mambaad.model import MambaAD, anomaly_map, check_side, image_score

FORMATS = {"onnx": ".onnx", "torch": ".pt2"}
"""Formats and the suffixes of their files; "torch" is torch.export's."""
OPSET = 18
TOLERANCE = 5e-5
"""Largest difference accepted between a graph and PyTorch, relative to the largest value of each array: some ten times
what float32 rounding makes through all layers. A wrong scan is off by 1e-2 and more in the decoder's features, but may
hardly show in maps and scores: so the features are compared, too."""
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INPUT, OUTPUTS = "images", ("anomaly_map", "score")
REPEATS = 5

FEATURES = ("decoder_4", "decoder_8", "decoder_16")  # the decoder's features at these strides

Run = Callable[[Tensor], tuple[Tensor, ...]]


class ExportError(ValueError):
    """A graph could not be made, or does not compute what PyTorch computes; nothing was written."""


class _Whole(nn.Module):
    """RGB in 0..1, (B, 3, S, S) -> anomaly maps (B, S, S), scores (B,) and, if wanted, the decoder's features."""

    def __init__(self, model: MambaAD, backend: str = "auto", features: bool = False) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).cpu()
        self.features = features
        self.model.set_scan_backend(backend)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        encoder_features, decoder_features = self.model(self.model.normalize(images))
        maps = anomaly_map(encoder_features, decoder_features, images.shape[-1])
        return (maps, image_score(maps), *(decoder_features if self.features else ()))


def export(
    model: MambaAD,
    path: str | Path,
    images: Tensor,
    *,
    format: str = "onnx",
    facts: Mapping[str, Any] | None = None,
    repeats: int = REPEATS,
) -> dict[str, Any]:
    """Write the graph of a model and, beside it, its record `<path>.json`; return the record.

    The written file is loaded again and run on the CPU, for ONNX by onnxruntime, on all images at once and on the
    first alone, before both files are put in place.

    Args:
        model: left as it is.
        path: the file to write.
        images: (B, 3, S, S) RGB in 0..1, B at least 2: what is compared. S is the graph's only image side.
        format: "onnx" or "torch" (torch.export).
        facts: what else belongs into the record, such as the threshold; plain values.
        repeats: timed calls of PyTorch and of the graph, one image each, in turn; 0 times nothing.

    Raises:
        ValueError: unknown format, images of another shape, a side that the scan order cannot fill.
        ExportError: packages missing; the graph differs from PyTorch by more than `TOLERANCE`.
    """
    path = Path(path)
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    if images.dim() != 4 or images.shape[1] != 3 or len(images) < 2 or not images.is_floating_point():
        raise ValueError(f"images must be float, (B, 3, S, S) with B of 2 or more, got {tuple(images.shape)}")
    check_side(model.config, *images.shape[-2:])
    if format == "onnx":
        _check_packages()
    images = images.detach().to("cpu", torch.float32)
    with torch.inference_mode():
        wanted = _Whole(model, features=True)(images)
    with atomic_path(path, suffix=FORMATS[format]) as temporary:
        program = traced(model, images, features=format == "onnx")
        if format == "onnx":
            _write_onnx(program, temporary, images.shape[-1], facts or {})
            features = _differences(_onnxruntime(temporary, (*OUTPUTS, *FEATURES)), images, wanted)
            _drop_features(temporary)
            run = _onnxruntime(temporary, OUTPUTS)
        else:
            features = _differences(_Whole(model, "exportable", features=True), images, wanted)
            torch.export.save(program, temporary)
            run = torch.export.load(temporary).module()
        differences = features | _differences(run, images, wanted[:2])
        differences |= _differences(run, images[:1], tuple(array[:1] for array in wanted[:2]), differences)
        plain = _Whole(model)
        milliseconds = _timed(plain, run, images[:1], repeats) if repeats else {}
        record = {
            "format": format,
            "file": path.name,
            "sha256": hashlib.sha256(temporary.read_bytes()).hexdigest(),
            "bytes": temporary.stat().st_size,
            "opset": OPSET if format == "onnx" else None,
            "input": {INPUT: ["batch", 3, *images.shape[-2:]], "values": "RGB, 0 to 1, float32"},
            "outputs": {OUTPUTS[0]: ["batch", *images.shape[-2:]], OUTPUTS[1]: ["batch"]},
            **(facts or {}),
            "compared": {
                "images": len(images),
                "batches": [1, len(images)],
                "largest_map_value": wanted[0].abs().max().item(),
                "max_difference_map": differences["anomaly_map"][0],
                "max_difference_score": differences["score"][0],
                "max_relative_difference": {name: relative for name, (_, relative) in differences.items()},
                "tolerance": TOLERANCE,
            },
            "milliseconds_per_image": milliseconds,
            "environment": environment("cpu") | {"export_packages": {name: _version(name) for name in PACKAGES}},
        }
    write_json(path.with_name(path.name + ".json"), record)
    return record


def traced(model: MambaAD, images: Tensor, *, features: bool = False) -> torch.export.ExportedProgram:
    """The whole computation as a graph of torch operations, for the side of `images` (B, 3, S, S) and any batch.

    With `features` it also puts out the decoder's features (B, C, h, w), shallowest first.
    """
    # channels_last weights have no complete storage of their own, which torch.export.save warns of
    whole = _Whole(model, "exportable", features).to(memory_format=torch.contiguous_format)
    with torch.no_grad():
        whole(images[:1])  # fills the caches of scan tables: filled while tracing, they would hold no values
        return torch.export.export(whole, (images[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False)


def _write_onnx(program: torch.export.ExportedProgram, path: Path, side: int, facts: Mapping[str, Any]) -> None:
    import onnx
    from onnxscript import optimizer

    exported = torch.onnx.export(
        program,
        dynamo=True,
        input_names=[INPUT],
        output_names=[*OUTPUTS, *FEATURES],
        opset_version=OPSET,
        verbose=False,
        optimize=False,  # its pattern matching takes minutes on so many nodes, and runtimes optimise by themselves
    )
    assert exported is not None
    optimizer.fold_constants(exported.model)
    optimizer.remove_unused_nodes(exported.model)
    proto = exported.model_proto
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del proto.graph.value_info[:]  # speaks of the batch by another name
    onnx.helper.set_model_props(proto, {"side": str(side), **{name: str(fact) for name, fact in facts.items()}})
    onnx.checker.check_model(proto)
    onnx.save_model(proto, path)


def _drop_features(path: Path) -> None:
    import onnx

    proto = onnx.load(path)
    del proto.graph.output[len(OUTPUTS) :]
    onnx.checker.check_model(proto)
    onnx.save_model(proto, path)


def _onnxruntime(path: Path, outputs: Sequence[str]) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> tuple[Tensor, ...]:
        return tuple(map(torch.from_numpy, session.run(list(outputs), {INPUT: images.numpy()})))

    return run


def _differences(
    run: Run, images: Tensor, wanted: Sequence[Tensor], worst: Mapping[str, tuple[float, float]] | None = None
) -> dict[str, tuple[float, float]]:
    """Largest difference of each output, absolute and relative to its largest value, and those of `worst` if larger."""
    found = {}
    with torch.inference_mode():
        got = run(images)
    for name, a, b in zip((*OUTPUTS, *FEATURES), got, wanted, strict=False):
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
    assert len(got) == len(wanted)
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

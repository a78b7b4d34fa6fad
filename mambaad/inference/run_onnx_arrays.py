"""Scores of a camera's frames by an exported graph: `python run_onnx_arrays.py model.onnx frame.npy more/*.npy`.

Frames are uint8, (H, W, 3), RGB.  Printed: path, score and, if the graph holds a threshold, whether it is anomalous.
Needs onnxruntime and numpy, and nothing else."""

import sys
from pathlib import Path

import numpy as np
import onnxruntime


def resize(frame: np.ndarray, side: int) -> np.ndarray:
    """(H, W, 3) -> (side, side, 3) as Pillow's BILINEAR does it, with antialiasing: along rows, then columns."""
    for axis, size in ((1, frame.shape[1]), (0, frame.shape[0])):
        distance = abs(np.arange(size) + 0.5 - (np.arange(side)[:, None] + 0.5) * size / side)
        weights = np.maximum(1 - distance / max(size / side, 1), 0)  # (side, size)
        mean = np.tensordot(weights / weights.sum(1, keepdims=True), frame, (1, axis))
        frame = np.floor(np.moveaxis(mean, 0, axis) + 0.5).astype(np.uint8)
    return frame


options, library = onnxruntime.SessionOptions(), Path(sys.argv[1]).resolve().with_name("routed_scan.so")
if library.exists():  # the compiled scan of a graph in the format onnx_native
    options.register_custom_ops_library(str(library))
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
side, names = session.get_inputs()[0].shape[2], [output.name for output in session.get_outputs()]
for path in sys.argv[2:]:
    found = dict(zip(names, session.run(names, {"images": resize(np.load(path), side)[None]}), strict=True))
    print(path, found["score"][0], *found.get("anomalous", ()), sep="\t")

"""Scores of images by an exported graph.  Needs onnxruntime, numpy and pillow, and nothing else.

python run_onnx.py model.onnx photo.png more/*.png --maps maps
"""

import argparse
import struct
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")  # MPO counts as JPEG
UNREADABLE = (  # what Pillow raises for files that are broken in one way or another, or too large
    *(OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError),
    *(TypeError, LookupError, ArithmeticError),
)


def main() -> int:
    """One line per image: score, verdict if the graph holds a threshold, path.  1 if an image could not be read."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--maps", type=Path, help="folder for the anomaly maps, as .npy")
    arguments = parser.parse_args()
    if arguments.maps and len({path.name for path in arguments.images}) < len(arguments.images):
        parser.error("two images have the same name, and their maps would be one file")
    options, library = onnxruntime.SessionOptions(), arguments.model.resolve().with_name("routed_scan.so")
    if library.exists():  # the compiled scan of a graph in the format onnx_native
        options.register_custom_ops_library(str(library))
    session = onnxruntime.InferenceSession(arguments.model, options, providers=["CPUExecutionProvider"])
    (images,), names = session.get_inputs(), [output.name for output in session.get_outputs()]
    bytewise = images.type == "tensor(uint8)"  # (B, S, S, 3), 0 to 255; else float (B, 3, S, S), 0 to 1
    side, code = images.shape[2], 0
    for path in arguments.images:
        try:
            pixels = read(path, side)
        except UNREADABLE as error:
            print(f"{path}: {error}", file=sys.stderr)
            code = 1
            continue
        batch = pixels[None] if bytewise else pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255
        found = dict(zip(names, session.run(names, {images.name: batch}), strict=True))
        verdict = {True: "not OK", False: "OK"}[bool(found["anomalous"][0])] if "anomalous" in found else ""
        print(f"{found['score'][0]:.6g}", verdict, path, sep="\t")
        if arguments.maps:
            arguments.maps.mkdir(parents=True, exist_ok=True)
            np.save(arguments.maps / f"{path.name}.npy", found["anomaly_map"][0])
    return code


def read(path: Path, side: int) -> np.ndarray:
    """An image (side, side, 3), uint8.  Raises one of `UNREADABLE` for a file that is none."""
    with Image.open(path, formats=FORMATS) as image:
        # a camera's MPO file holds its photograph first, then previews and depth
        if image.format != "MPO" and (pictures := getattr(image, "n_frames", 1)) > 1:
            raise ValueError(f"expected one picture, got {pictures}")
        upright = ImageOps.exif_transpose(image)
    if upright.mode[0] in "IF":  # 16-bit grey, which convert("RGB") would clip at 255
        deep = np.asarray(upright)
        if upright.mode == "F" or deep.min() < 0 or deep.max() > 65535:
            raise ValueError("expected 8 or 16 bits per channel, got more; convert the image")
        upright = Image.fromarray(np.round(deep / 257).astype(np.uint8))
    return np.asarray(upright.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))


if __name__ == "__main__" and main():
    sys.exit(1)

"""Scores of images by an exported graph.  Needs onnxruntime, numpy and pillow, and nothing else.

python run_onnx.py model.onnx photo.png more/*.png --maps maps
"""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def main() -> None:
    """One line per image: score, verdict if the graph holds a threshold, path."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--maps", type=Path, help="folder for the anomaly maps, as .npy")
    arguments = parser.parse_args()
    options, library = onnxruntime.SessionOptions(), arguments.model.resolve().with_name("routed_scan.so")
    if library.exists():  # the compiled scan of a graph in the format onnx_native
        options.register_custom_ops_library(str(library))
    session = onnxruntime.InferenceSession(arguments.model, options, providers=["CPUExecutionProvider"])
    (images,), names = session.get_inputs(), [output.name for output in session.get_outputs()]
    bytewise = images.type == "tensor(uint8)"  # (B, S, S, 3), 0 to 255; else float (B, 3, S, S), 0 to 1
    side = images.shape[2]
    for path in arguments.images:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
        if upright.mode[0] in "IF":  # 16-bit grey, which convert("RGB") would clip at 255
            deep = np.asarray(upright)
            if upright.mode == "F" or deep.min() < 0 or deep.max() > 65535:
                raise SystemExit(f"{path}: expected 8 or 16 bits per channel, got more; convert the image")
            upright = Image.fromarray(np.round(deep / 257).astype(np.uint8))
        pixels = np.asarray(upright.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))
        batch = pixels[None] if bytewise else pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255
        found = dict(zip(names, session.run(names, {images.name: batch}), strict=True))
        verdict = {True: "not OK", False: "OK"}[bool(found["anomalous"][0])] if "anomalous" in found else ""
        print(f"{found['score'][0]:.6g}", verdict, path, sep="\t")
        if arguments.maps:
            arguments.maps.mkdir(parents=True, exist_ok=True)
            np.save(arguments.maps / f"{path.name}.npy", found["anomaly_map"][0])


if __name__ == "__main__":
    main()

"""Train the embedded encoder: half a MobileNetV2 that tells procedurally drawn classes apart.

    python scripts/train_embedded_encoder.py            about 20 minutes on two CPU cores

Writes mambaad/assets/embedded_encoder.safetensors and .json (what the library loads) and
results/encoder/embedded_encoder.json (the record).  The quick profile of the study uses these weights, so that it
needs no download; they know nothing of the synthetic set's categories nor of any real image.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import procedural_images  # noqa: E402
from nearest_neighbour import judge  # noqa: E402

from mambaad.data import load_dataset  # noqa: E402
from mambaad.data.synthetic.generate import write_synthetic  # noqa: E402
from mambaad.files import atomic_path, write_text  # noqa: E402

BACKBONE = "mobilenetv2_050"
KWARGS: dict[str, Any] = {}
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
DRAWN, CROP = 80, 64  # sides in pixels
HEAD_WEIGHTS = (0.2, 0.4, 1.0)  # every stage has a classifier of its own, the deepest counts most


def encoder() -> nn.Module:
    """Features at strides 4, 8, 16 with 16, 16, 48 channels, cut after stride 16 as the library does it."""
    network: Any = timm.create_model(BACKBONE, pretrained=False, features_only=True, out_indices=(1, 2, 3), **KWARGS)
    network.blocks = network.blocks[: _stages(network)[-1] + 1]
    return network


def _stages(network: Any) -> list[int]:
    """Index in `blocks` of the stages whose outputs are the features."""
    return [int(name.split(".")[1]) for name in network.feature_info.module_name()]


@torch.no_grad()
def standardise(network: Any, images: Tensor) -> None:
    """Give every feature channel mean 0 and standard deviation 1 over `images`, by changing weights only.

    A MobileNetV2 stage ends in a linear layer, so the shift and scale fold into its last BatchNorm, and their inverse
    into the next stage's first convolution and its BatchNorm: the features of later stages keep their shape.
    """
    stages = _stages(network)
    for i, stage in enumerate(stages):
        feature = torch.cat([network(part)[i] for part in images.split(64)])
        mean, std = feature.mean((0, 2, 3)), feature.std((0, 2, 3)) + 1e-3
        for number, block in enumerate(network.blocks[stage]):  # all blocks of a stage add to one residual stream
            block.bn3.weight /= std
            block.bn3.bias /= std
            if number:
                block.conv_pw.weight *= std.view(1, -1, 1, 1)
        network.blocks[stage][-1].bn3.bias -= mean / std
        if stage + 1 < len(network.blocks):
            first = network.blocks[stage + 1][0]
            first.conv_pw.weight *= std.view(1, -1, 1, 1)
            first.bn1.running_mean -= first.conv_pw.weight[:, :, 0, 0] @ (mean / std)


class Classifier(nn.Module):
    """The encoder with a linear classifier on every stage's mean and maximum."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.encoder = encoder()
        widths: list[int] = self.encoder.feature_info.channels()  # type: ignore[union-attr, operator]
        self.heads = nn.ModuleList(nn.Sequential(nn.BatchNorm1d(2 * w), nn.Linear(2 * w, classes)) for w in widths)

    def forward(self, images: Tensor) -> list[Tensor]:
        pooled = (torch.cat([f.mean((2, 3)), f.amax((2, 3))], 1) for f in self.encoder(images))
        return [head(p) for head, p in zip(self.heads, pooled, strict=True)]


# -- images -----------------------------------------------------------------------------------------------------------


def _draw_class(job: tuple[int, int, int]) -> np.ndarray:
    class_index, count, seed = job
    return np.stack([procedural_images.draw(class_index, k, DRAWN, seed) for k in range(count)])


def draw_pool(classes: int, count: int, seed: int, workers: int) -> Tensor:
    """All images: uint8 (classes, count, 3, DRAWN, DRAWN)."""
    jobs = [(k, count, seed) for k in range(classes)]
    with ProcessPoolExecutor(workers) as pool:
        drawn = list(tqdm(pool.map(_draw_class, jobs), total=classes, desc="draw classes"))
    return torch.from_numpy(np.stack(drawn)).permute(0, 1, 4, 2, 3).contiguous()


def normalise(images: Tensor) -> Tensor:
    return (images.float() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Random crop, flip, colour, blur and occlusion of normalised images (B, 3, DRAWN, DRAWN) -> (B, 3, CROP, CROP)."""

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(shape, generator=generator) * (high - low) + low

    n = len(images)
    corners = torch.randint(DRAWN - CROP + 1, (n, 2), generator=generator)
    out = torch.stack([x[:, i : i + CROP, j : j + CROP] for x, (i, j) in zip(images, corners.tolist(), strict=True)])
    flip = uniform(n) < 0.5
    out[flip] = out[flip].flip(-1)
    out = out * uniform(n, 3, 1, 1, low=0.85, high=1.15) + uniform(n, 3, 1, 1, low=-0.15, high=0.15)
    blur = uniform(n) < 0.25
    out[blur] = F.avg_pool2d(F.pad(out[blur], (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    for k in torch.nonzero(uniform(n) < 0.3).flatten().tolist():
        height, width = torch.randint(8, 28, (2,), generator=generator).tolist()
        top = int(torch.randint(CROP - height, (1,), generator=generator))
        left = int(torch.randint(CROP - width, (1,), generator=generator))
        out[k, :, top : top + height, left : left + width] = torch.randn(3, 1, 1, generator=generator)
    return out


# -- training ---------------------------------------------------------------------------------------------------------


def train(
    pool: Tensor, held_out: int, steps: int, batch: int, lr: float, seed: int
) -> tuple[nn.Module, list[list[float]], float]:
    """The trained encoder, the loss curve [[step, loss], ...] and the accuracy on the held-out images in percent."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    classes, count = pool.shape[:2]
    kept = count - held_out
    model = Classifier(classes).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=0.15)
    curve, window = [], []
    progress = tqdm(range(steps), desc="train")
    for step in progress:
        labels = torch.randint(classes, (batch,), generator=generator)
        picks = torch.randint(kept, (batch,), generator=generator)
        images = augment(normalise(pool[labels, picks]), generator).contiguous(memory_format=torch.channels_last)
        losses = [F.cross_entropy(logits, labels, label_smoothing=0.1) for logits in model(images)]
        loss = torch.stack([w * v for w, v in zip(HEAD_WEIGHTS, losses, strict=True)]).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        window.append(losses[-1].item())
        if (step + 1) % 100 == 0 or step + 1 == steps:
            curve.append([step + 1, round(float(np.mean(window)), 4)])
            progress.set_postfix(loss=f"{curve[-1][1]:.3f}")
            window = []
    model.eval()
    edge = (DRAWN - CROP) // 2
    with torch.inference_mode():
        right = sum(
            int((model(normalise(pool[k, kept:, :, edge:-edge, edge:-edge]))[-1].argmax(1) == k).sum())
            for k in range(classes)
        )
    standardise(model.encoder, normalise(pool[:, :4, :, edge:-edge, edge:-edge].flatten(0, 1)))
    return model.encoder, curve, 100 * right / (classes * held_out)


# -- files ------------------------------------------------------------------------------------------------------------


def code_version() -> dict[str, str]:
    """The git commit, if there is one, and the hashes of the scripts that make the weights."""
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    names = [*sorted(p.name for p in (ROOT / "scripts").glob("procedural_*.py")), Path(__file__).name]
    hashes = {name: hashlib.sha256((ROOT / "scripts" / name).read_bytes()).hexdigest() for name in names}
    return {"commit": git.stdout.strip() if git.returncode == 0 else "", **hashes}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--classes", type=int, default=330, help="procedural classes")
    parser.add_argument("--images", type=int, default=64, help="images drawn per class")
    parser.add_argument("--held-out", type=int, default=8, help="of these, kept for measuring the accuracy")
    parser.add_argument("--steps", type=int, default=3000, help="optimiser steps")
    parser.add_argument("--batch", type=int, default=96, help="images per step")
    parser.add_argument("--lr", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0, help="seed of the images and of the training")
    parser.add_argument("--threads", type=int, default=2, help="threads and drawing processes")
    parser.add_argument("--assets", type=Path, default=ROOT / "mambaad" / "assets", help="folder of the weights")
    parser.add_argument("--record", type=Path, default=ROOT / "results" / "encoder", help="folder of the record")
    parser.add_argument("--judge", type=Path, help="also judge on this MVTec AD folder (printed, not recorded)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    code = code_version()  # now, before anybody edits the files
    start = time.perf_counter()
    pool = draw_pool(args.classes, args.images, args.seed, args.threads)
    drawn = time.perf_counter()
    network, curve, accuracy = train(pool, args.held_out, args.steps, args.batch, args.lr, args.seed)
    trained = time.perf_counter()

    torch.manual_seed(args.seed)
    encoders = {"trained": network, "random": encoder()}
    with tempfile.TemporaryDirectory() as folder:
        samples = load_dataset("synthetic", write_synthetic(Path(folder) / "synthetic", CROP))
        judged = {name: judge(net, samples, CROP, MEAN, STD) for name, net in encoders.items()}
    print(json.dumps(judged))
    if args.judge:
        real = load_dataset("mvtec_ad", args.judge)
        for side in (64, 128):
            print(side, {name: judge(net, real, side, MEAN, STD) for name, net in encoders.items()})

    weights = args.assets / "embedded_encoder.safetensors"
    with atomic_path(weights) as temporary:
        save_file({k: v.contiguous() for k, v in network.state_dict().items()}, temporary)
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    how = {
        "script": "scripts/train_embedded_encoder.py",
        "seed": args.seed,
        "steps": args.steps,
        "batch_size": args.batch,
        "lr": args.lr,
        "classes": args.classes,
        "images_per_class": args.images - args.held_out,
        "held_out_accuracy": round(accuracy, 2),
        "wall_seconds": {"draw": round(drawn - start, 1), "train": round(trained - drawn, 1)},
    }
    model = {"backbone": BACKBONE, "backbone_kwargs": KWARGS, "mean": MEAN, "std": STD, "sha256": sha256}
    record = {
        "schema": 1,
        **model,
        "trained": how,
        "families": list(procedural_images.FAMILIES),
        "nearest_neighbour_auroc_synthetic_64": {"columns": ["image", "pixel"], **judged},
        "loss": curve,
        "environment": {
            "code": code,
            "packages": {name: version(name) for name in ("torch", "timm", "numpy", "pillow", "safetensors")},
            "python": platform.python_version(),
            "platform": f"{platform.system()} {platform.machine()}",
            "threads": args.threads,
        },
    }
    write_text(weights.with_suffix(".json"), json.dumps({**model, "trained": how}, indent=2) + "\n")
    write_text(args.record / "embedded_encoder.json", json.dumps(record, indent=2) + "\n")
    print(f"{weights}: {weights.stat().st_size} bytes, held-out accuracy {accuracy:.1f} %")


if __name__ == "__main__":
    main()

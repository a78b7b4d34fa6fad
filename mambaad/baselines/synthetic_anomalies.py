"""Synthetic anomalies: another texture shows through a mask of Perlin noise (DeSTSeg, after DRAEM, ICCV 2021).

Everything random is drawn from torch's generator on the CPU, so that a continued run corrupts its images alike.

Axes: B batch, S image side in pixels, kx ky cells of the noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from mambaad.data.datasets.mvtec_ad import IMAGE_SUFFIXES
from mambaad.data.pixels import read_rgb, resize_rgb
from mambaad.data.sample import DatasetError, Sample, index_hash

Texture = Callable[[int], Float[Tensor, "3 S S"]]
"""Side -> a random texture, values 0..1."""

PROCEDURAL = "procedural"
LARGEST_EXPONENT = 5  # a side of the noise has 2^0 to 2^5 cells
THRESHOLD = 0.5
LARGEST_OPACITY = 0.8  # of the image that shines through
OCTAVES = 4
GRAIN = 0.05


def corrupt(
    images: Float[Tensor, "B 3 S S"], texture: Texture, mean: Sequence[float], std: Sequence[float]
) -> tuple[Float[Tensor, "B 3 S S"], Float[Tensor, "B 1 S S"]]:
    """Normalised images with an anomaly painted into each, and masks, 1 where it is; a mask can be empty.

    Inside the mask: (1 - b) texture + b image, b uniform in [0, 0.8).  The weights add up to 1, so that normalised
    images and textures can be mixed as well as values in 0..1.
    """
    side = images.shape[-1]
    masks = torch.stack([random_mask(side) for _ in images])[:, None]
    shift, scale = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
    textures = torch.stack([(texture(side) - shift) / scale for _ in images]).to(images)
    opacity = LARGEST_OPACITY * torch.rand(len(images), 1, 1, 1).to(images)
    masks = masks.to(images.device)
    return torch.where(masks, torch.lerp(textures, images, opacity), images), masks.to(images)


def random_mask(side: int) -> Bool[Tensor, "S S"]:
    """Perlin noise with a random number of cells, turned by up to 90 degrees, where it exceeds 0.5."""
    cells = [2 ** int(exponent) for exponent in torch.randint(LARGEST_EXPONENT + 1, (2,))]
    noise = perlin(torch.rand(cells[0] + 1, cells[1] + 1), side)
    angle = math.pi * (float(torch.rand(())) - 0.5)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle), 0.0], [math.sin(angle), math.cos(angle), 0.0]])
    grid = F.affine_grid(turn[None], [1, 1, side, side], align_corners=False)
    return F.grid_sample(noise[None, None], grid, mode="bilinear", align_corners=False)[0, 0] > THRESHOLD


def perlin(turns: Float[Tensor, "kx1 ky1"], side: int) -> Float[Tensor, "S S"]:
    """Perlin noise of `side` x `side` pixels.

    Args:
        turns: direction of the unit gradient at each corner of the kx x ky cells, (kx + 1, ky + 1), as part of a full
            turn; its cosine lies along the first axis.
    """
    angles = 2 * math.pi * turns
    gradients = torch.stack([angles.cos(), angles.sin()])
    rows, columns = (torch.arange(side, dtype=turns.dtype) * (n - 1) / side for n in turns.shape)
    i, j = rows.long(), columns.long()
    a, b = (rows - i)[:, None], (columns - j)[None]

    def corner(down: int, right: int) -> Tensor:
        along, across = gradients[:, (i + down)[:, None], (j + right)[None]]
        return along * (a - down) + across * (b - right)

    left, right = (torch.lerp(corner(0, r), corner(1, r), fade(a).expand(side, side)) for r in (0, 1))
    return math.sqrt(2) * torch.lerp(left, right, fade(b).expand(side, side))


def fade(t: Tensor) -> Tensor:
    """6 t^5 - 15 t^4 + 10 t^3."""
    return t**3 * (t * (6 * t - 15) + 10)


def procedural_texture(side: int) -> Float[Tensor, "3 S S"]:
    """A made texture in place of a photograph: clouds, stripes or checks in two random colours, with some grain."""
    clouds = _clouds(side)
    kind, angle = int(torch.randint(3, ())), 2 * math.pi * float(torch.rand(()))
    waves, warp = 2 + 14 * float(torch.rand(())), 2 * float(torch.rand(()))
    place = torch.arange(side) / side
    along = math.cos(angle) * place[:, None] + math.sin(angle) * place[None]
    across = math.cos(angle) * place[None] - math.sin(angle) * place[:, None]
    first, second = (torch.sin(2 * math.pi * (waves * axis + warp * clouds)) for axis in (along, across))
    pattern = (clouds, 0.5 + 0.5 * first, (first * second > 0).float())[kind]
    dark, bright = torch.rand(2, 3, 1, 1)
    return (torch.lerp(dark, bright, pattern) + GRAIN * torch.randn(3, side, side)).clamp(0, 1)


def _clouds(side: int) -> Float[Tensor, "S S"]:
    """Octaves of Perlin noise, stretched to 0..1."""
    coarse = 2 ** int(torch.randint(1, 4, ()))
    octaves = [perlin(torch.rand(coarse * 2**n + 1, coarse * 2**n + 1), side) / 2**n for n in range(OCTAVES)]
    field = torch.stack(octaves).sum(0)
    return (field - field.min()) / (field.max() - field.min()).clamp(min=1e-6)


# -- photographs
def texture_files(folder: str | Path) -> list[Path]:
    """The images of a texture folder in the layout of DTD (`images/<class>/*.jpg`), or of any folder of images.

    Raises:
        DatasetError: no images there.
    """
    root = Path(folder) / "images"
    root = root if root.is_dir() else Path(folder)
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise DatasetError(
            f"{folder}: expected texture images, images/<class>/*.jpg as DTD has them or any others, found none"
        )
    return files


def textures_name(folder: str | Path) -> str:
    """What a run calls its textures: the folder's name and a hash of its files (relative paths and sizes)."""
    samples = [Sample(image=path, category=path.parent.name, split="train") for path in texture_files(folder)]
    return f"{Path(folder).resolve().name}@{index_hash(samples, folder)}"


def texture_source(name: str, folder: str | Path | None) -> Texture:
    """Where textures come from.

    Args:
        name: "procedural", or what `textures_name` said of the folder.
        folder: the images behind another name.

    Raises:
        DatasetError: the folder is not given, not wanted, empty or another one.
    """
    if name == PROCEDURAL:
        if folder is not None:
            raise DatasetError(f"{folder}: the run makes its textures itself: leave the folder out")
        return procedural_texture
    if folder is None:
        raise DatasetError(f"the run takes its textures from {name}: name the folder that holds them")
    if (found := textures_name(folder)) != name:
        raise DatasetError(f"{folder}: expected the textures {name}, found {found}: name the folder the run began with")
    files = texture_files(folder)

    def photograph(side: int) -> Tensor:
        image = resize_rgb(read_rgb(files[int(torch.randint(len(files), ()))]), side)
        return torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32)) / 255

    return photograph

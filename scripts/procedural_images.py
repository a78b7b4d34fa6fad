"""Images drawn from formulas, in classes, to train the embedded encoder on.

A class is a family of formulas with random constants of its own; its images differ in pose, colours, light and
background.  Nothing here shares code or motifs with the synthetic data set of `mambaad.data`.

A family takes the class's generator (the same stream for every image of the class), the image's own generator and
the posed coordinates x, y (H, W) in about -1..1.  It returns a tone (H, W) in 0..1 and a coverage (H, W) in 0..1:
all ones for textures, the shape for objects, which are laid over a random background.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
from procedural_objects import glyph, iterated_maps, polygons, solids, star, tree
from procedural_textures import Array, Field, Rng, cells, fractal_noise, julia, value_noise, wallpaper, waves

FAMILIES: dict[str, Callable[[Rng, Rng, Array, Array], Field]] = {
    f.__name__: f
    for f in (fractal_noise, waves, cells, julia, wallpaper, star, solids, iterated_maps, glyph, tree, polygons)
}


def _palette(rng: Rng) -> Array:
    """Coefficients (4, 3) of a colour ramp offset + amplitude * cos(2 pi (rate * tone + phase))."""
    return np.stack([rng.uniform(low, high, 3) for low, high in ((0.3, 0.7), (0.1, 0.45), (0.3, 1.0), (0.0, 1.0))])


def _colours(tone: Array, palette: Array) -> Array:
    offset, amplitude, rate, phase = palette
    return np.clip(offset + amplitude * np.cos(2 * np.pi * (rate * tone[..., None] + phase)), 0, 1)


def draw(class_index: int, image_index: int, size: int, seed: int) -> Array:
    """One image of a class: uint8 (size, size, 3)."""
    name = list(FAMILIES)[class_index % len(FAMILIES)]
    key = (seed, class_index, zlib.crc32(name.encode()))
    cls, rng = np.random.default_rng(key), np.random.default_rng((*key, image_index + 1))
    colour_class = np.random.default_rng((*key, 0))

    axis = (np.arange(size) + 0.5) * (2 / size) - 1
    grid_x, grid_y = np.meshgrid(axis, axis)
    angle, scale, shear = rng.uniform(-0.6, 0.6), rng.uniform(0.75, 1.25), rng.uniform(-0.15, 0.15)
    dx, dy = rng.uniform(-0.25, 0.25, 2)
    x = (grid_x - dx) * np.cos(angle) + (grid_y - dy) * np.sin(angle)
    y = (grid_y - dy) * np.cos(angle) - (grid_x - dx) * np.sin(angle)
    x, y = (x + shear * y) / scale, y / scale

    tone, cover = FAMILIES[name](cls, rng, x, y)
    # In one class of two the colours belong to the class, in the other they are free.
    fixed = colour_class.uniform() < 0.5
    palette = _palette(colour_class if fixed else rng)
    palette = palette + rng.uniform(-0.06, 0.06, palette.shape)
    saturation = (colour_class if fixed else rng).uniform(0, 1)
    image = _colours(tone, palette)
    image = image.mean(axis=-1, keepdims=True) * (1 - saturation) + image * saturation
    if cover.min() < 1:
        back = 0.5 + 0.5 * value_noise(rng, grid_x, grid_y, rng.uniform(0.5, 12)) * rng.uniform(0, 1)
        behind, saturation = _colours(back, _palette(rng)), rng.uniform(0, 1)
        behind = behind.mean(axis=-1, keepdims=True) * (1 - saturation) + behind * saturation
        image = image * cover[..., None] + behind * (1 - cover[..., None])
    lx, ly = rng.uniform(-0.25, 0.25, 2)
    image = image * (rng.uniform(0.75, 1.1) * (1 + lx * grid_x + ly * grid_y))[..., None]
    image = image + rng.uniform(0, 0.03) * rng.standard_normal(image.shape)
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)

"""Objects to train the embedded encoder on: shapes that procedural_images.py lays over a random background.

See there for what a family takes and returns.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

Array = np.ndarray
Rng = np.random.Generator
Field = tuple[Array, Array]


def _cover(distance: Array) -> Array:
    return np.clip(0.5 - distance * 40, 0, 1)


def star(cls: Rng, rng: Rng, x: Array, y: Array) -> Field:
    """An outline that is a random Fourier series of the angle, with inner contours."""
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    fold = cls.integers(1, 7)
    outline = np.full_like(x, cls.uniform(0.45, 0.65))
    for k in range(1, 5):
        outline += cls.uniform(-0.16, 0.16) / np.sqrt(k) * np.cos(k * fold * angle + cls.uniform(0, 6.28))
    ratio = radius / np.maximum(outline, 0.05)
    hole = cls.uniform(0, 0.4) if cls.uniform() < 0.5 else 0.0
    tone = 0.5 + 0.5 * np.cos(cls.uniform(1, 12) * ratio + cls.uniform(0, 6.28))
    return np.clip(tone, 0, 1), _cover(radius - outline) * _cover(hole - ratio)


def solids(cls: Rng, rng: Rng, x: Array, y: Array) -> Field:
    """A few shaded ellipsoids in a fixed arrangement, lit from somewhere."""
    lamp = rng.uniform(-1, 1, 2)
    lamp = np.append(lamp, 1.0) / np.sqrt(lamp @ lamp + 1)
    gloss = cls.uniform(4, 40)
    tone, cover, depth = np.zeros_like(x), np.zeros_like(x), np.full_like(x, -9.0)
    for _ in range(cls.integers(2, 7)):
        cx, cy, cz = cls.uniform(-0.6, 0.6, 3)
        rx, ry, turn = cls.uniform(0.15, 0.5), cls.uniform(0.15, 0.5), cls.uniform(0, np.pi)
        body = cls.uniform(0.3, 1)
        u = ((x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)) / rx
        v = ((y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)) / ry
        height = 1 - u * u - v * v
        z = np.sqrt(np.maximum(height, 0))
        nx = u * np.cos(turn) - v * np.sin(turn)
        ny = u * np.sin(turn) + v * np.cos(turn)
        lit = np.maximum(nx * lamp[0] + ny * lamp[1] + z * lamp[2], 0)
        front = (height > 0) & (cz + 0.3 * z > depth)
        depth = np.where(front, cz + 0.3 * z, depth)
        tone = np.where(front, 0.15 + 0.55 * body * lit + 0.3 * lit**gloss, tone)
        cover = np.maximum(cover, np.clip(height * 12, 0, 1))
    return np.clip(tone, 0, 1), cover


def _stamp(points: Array, x: Array, y: Array) -> Array:
    """Histogram of points (n, 2) in -1..1, read at the posed coordinates."""
    size = 72
    grid = np.histogram2d(points[:, 1], points[:, 0], bins=size, range=[[-1.2, 1.2], [-1.2, 1.2]])[0]
    grid = grid / max(np.percentile(grid[grid > 0], 80), 1) if grid.any() else grid
    i = np.clip(((y + 1.2) / 2.4 * size).astype(int), 0, size - 1)
    j = np.clip(((x + 1.2) / 2.4 * size).astype(int), 0, size - 1)
    return np.clip(grid, 0, 1)[i, j]


def iterated_maps(cls: Rng, rng: Rng, x: Array, y: Array) -> Field:
    """The attractor of a few random affine contractions (an iterated function system)."""
    count = cls.integers(2, 5)
    maps = []
    for _ in range(count):
        a, b = cls.uniform(0, 2 * np.pi, 2)
        s, t = cls.uniform(0.35, 0.8), cls.uniform(0.35, 0.8)
        left = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
        right = np.array([[np.cos(b), -np.sin(b)], [np.sin(b), np.cos(b)]])
        maps.append((left @ np.diag([s, t]) @ right, cls.uniform(-0.7, 0.7, 2)))
    linear, offset = np.stack([m for m, _ in maps]), np.stack([o for _, o in maps])
    points, seen = rng.uniform(-1, 1, (600, 2)), []
    for step in range(32):
        pick = rng.integers(count, size=len(points))
        points = np.einsum("nij,nj->ni", linear[pick], points) + offset[pick]
        if step >= 8:
            seen.append(points)
    cloud = np.concatenate(seen)
    low, high = np.percentile(cloud, 1, axis=0), np.percentile(cloud, 99, axis=0)
    density = _stamp((cloud - (low + high) / 2) / max(np.max(high - low) / 2, 1e-6), x, y)
    return density, np.clip(density * 3, 0, 1)


def _rotated_read(picture: Image.Image, x: Array, y: Array) -> Array:
    pixels = np.asarray(picture, dtype=np.float64) / 255
    size = pixels.shape[0]
    i = np.clip(((y + 1.1) / 2.2 * size).astype(int), 0, size - 1)
    j = np.clip(((x + 1.1) / 2.2 * size).astype(int), 0, size - 1)
    return pixels[i, j]


def _plot(lines: list[tuple[Array, float, int]], size: int = 144) -> Image.Image:
    """Poly-lines (points (n, 2) in -1..1, width, tone 0..255) as a grey picture."""
    picture = Image.new("L", (size, size))
    pen = ImageDraw.Draw(picture)
    for points, width, tone in lines:
        places = [tuple(p) for p in ((points + 1.1) / 2.2 * size).tolist()]
        pen.line(places, fill=tone, width=max(1, round(width * size / 2.2)), joint="curve")
    return picture


def glyph(cls: Rng, rng: Rng, x: Array, y: Array) -> Field:
    """A made-up written character: a few curved strokes."""
    width, lines = cls.uniform(0.06, 0.16), []
    for _ in range(cls.integers(2, 5)):
        p = cls.uniform(-0.8, 0.8, (4, 2)) + rng.uniform(-0.04, 0.04, (4, 2))
        t = np.linspace(0, 1, 16)[:, None]
        curve = (1 - t) ** 3 * p[0] + 3 * t * (1 - t) ** 2 * p[1] + 3 * t**2 * (1 - t) * p[2] + t**3 * p[3]
        lines.append((curve, width, int(cls.integers(140, 256))))
    tone = _rotated_read(_plot(lines), x, y)
    return tone, (tone > 0).astype(float)


def tree(cls: Rng, rng: Rng, x: Array, y: Array) -> Field:
    """A branching plant (L-system): every branch forks by fixed angles and ratios."""
    angles, ratios = cls.uniform(-1.2, 1.2, cls.integers(2, 4)), cls.uniform(0.55, 0.8, 3)
    trunk, width, bow = cls.uniform(0.45, 0.75), cls.uniform(0.05, 0.12), cls.uniform(-0.3, 0.3)
    lines, tips = [], [(np.array([0.0, 0.9]), -np.pi / 2 + rng.uniform(-0.1, 0.1), trunk, width)]
    for depth in range(5):
        grown = []
        for start, heading, length, thick in tips:
            end = start + length * np.array([np.cos(heading), np.sin(heading)])
            lines.append((np.stack([start, end]), thick, 140 + 25 * depth))
            for angle, ratio in zip(angles, ratios, strict=False):
                bent = heading + angle + bow * depth / 4 + rng.uniform(-0.06, 0.06)
                grown.append((end, bent, length * ratio, thick * 0.7))
        tips = grown
    tone = _rotated_read(_plot(lines), x, y)
    return tone, (tone > 0).astype(float)


def polygons(cls: Rng, rng: Rng, x: Array, y: Array) -> Field:
    """Overlapping convex polygons in a fixed arrangement."""
    tone, cover = np.zeros_like(x), np.zeros_like(x)
    for _ in range(cls.integers(2, 6)):
        centre, sides = cls.uniform(-0.5, 0.5, 2), cls.integers(3, 7)
        size, turn = cls.uniform(0.2, 0.5), cls.uniform(0, 6.28)
        distance = np.full_like(x, -9.0)
        for k in range(sides):
            a = turn + 2 * np.pi * k / sides
            distance = np.maximum(distance, (x - centre[0]) * np.cos(a) + (y - centre[1]) * np.sin(a) - size)
        inside, grey = _cover(distance), cls.uniform(0, 1)
        hollow = _cover(distance + 0.12) if cls.uniform() < 0.3 else 0
        inside = inside * (1 - hollow)
        tone, cover = tone + inside * (grey - tone), np.maximum(cover, inside)
    return tone, cover

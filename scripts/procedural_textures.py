"""Textures to train the embedded encoder on: formulas of the coordinates that fill the image.

See procedural_images.py for what a family takes and returns.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray
Rng = np.random.Generator
Field = tuple[Array, Array]


def _smooth(t: Array) -> Array:
    return t * t * (3 - 2 * t)


def value_noise(rng: Rng, x: Array, y: Array, frequency: float) -> Array:
    """Smoothly interpolated random values, -1..1, on a lattice of this many cells per unit."""
    u, v = x * frequency + 64, y * frequency + 64
    i, j = np.floor(u).astype(int), np.floor(v).astype(int)
    fu, fv = _smooth(u - i), _smooth(v - j)
    lattice = rng.uniform(-1, 1, (61, 67))

    def at(di: int, dj: int) -> Array:
        return lattice[np.mod(j + dj, 61), np.mod(i + di, 67)]

    top = at(0, 0) * (1 - fu) + at(1, 0) * fu
    return top * (1 - fv) + (at(0, 1) * (1 - fu) + at(1, 1) * fu) * fv


def _ones(tone: Array) -> Field:
    return np.clip(tone, 0, 1), np.ones_like(tone)


def fractal_noise(cls: Rng, rng: Rng, x: Array, y: Array) -> Field:
    """Octaves of noise, stretched, folded and warped."""
    frequency, gain, stretch = cls.uniform(1, 5), cls.uniform(0.35, 0.85), cls.uniform(1, 5)
    fold, warp, steps = cls.integers(3), cls.uniform(0, 0.5), cls.integers(2, 7)
    x = x + warp * value_noise(rng, x, y, 2)
    total, weight = np.zeros_like(x), 0.0
    for octave in range(4):
        layer = value_noise(rng, x * stretch, y, frequency * 2**octave)
        layer = np.abs(layer) * 2 - 1 if fold == 1 else layer
        total, weight = total + gain**octave * layer, weight + gain**octave
    tone = 0.5 + 0.8 * total / weight
    return _ones(np.floor(tone * steps) / steps if fold == 2 else tone)


def waves(cls: Rng, rng: Rng, x: Array, y: Array) -> Field:
    """Sums and products of plane and circular waves."""
    tone = np.ones_like(x) if (product := cls.uniform() < 0.4) else np.zeros_like(x)
    sharp, count = cls.uniform(0.5, 6), cls.integers(1, 4)
    for _ in range(count):
        angle, frequency, centre = cls.uniform(0, np.pi), cls.uniform(4, 26), cls.uniform(-1.5, 1.5, 2)
        phase = rng.uniform(0, 2 * np.pi)
        if cls.uniform() < 0.3:
            wave = np.sin(frequency * np.hypot(x - centre[0], y - centre[1]) + phase)
        else:
            wave = np.sin(frequency * (x * np.cos(angle) + y * np.sin(angle)) + phase)
        tone = tone * wave if product else tone + wave / count
    return _ones(0.5 + 0.5 * np.tanh(sharp * tone) / np.tanh(sharp))


def cells(cls: Rng, rng: Rng, x: Array, y: Array) -> Field:
    """Voronoi cells: distance to the nearest seeds, in several metrics and mixtures."""
    count, mode, power = cls.integers(8, 60), cls.integers(4), cls.choice([1.0, 2.0, 6.0])
    squeeze = cls.uniform(0.5, 1)
    seeds = rng.uniform(-1.4, 1.4, (count, 2))
    dx, dy = np.abs(x[..., None] - seeds[:, 0]), squeeze * np.abs(y[..., None] - seeds[:, 1])
    distance = (dx**power + dy**power) ** (1 / power)
    nearest = distance.argmin(axis=-1)
    two = np.partition(distance, 1, axis=-1)[..., :2] * np.sqrt(count) / 1.6
    tones = rng.uniform(0, 1, count)[nearest]
    edge = np.clip((two[..., 1] - two[..., 0]) * 6, 0, 1)
    return _ones((two[..., 0], two[..., 1] - two[..., 0], tones * edge, tones * (1 - 0.7 * two[..., 0]))[mode])


def julia(cls: Rng, rng: Rng, x: Array, y: Array) -> Field:
    """Escape times of z -> z^n + c."""
    angle, radius, power = cls.uniform(0, 2 * np.pi), cls.uniform(0.55, 0.85), cls.integers(2, 5)
    c, zoom = radius * np.exp(1j * angle), cls.uniform(0.6, 1.3)
    z: Array = (x + 1j * y) * zoom
    tone = np.zeros_like(x)
    for _ in range(24):
        inside = np.abs(z) < 4
        tone += inside
        z = np.where(inside, z, 4) ** power + np.where(inside, c, 0)
    return _ones((tone / 24) ** cls.uniform(0.5, 1.2))


def wallpaper(cls: Rng, rng: Rng, x: Array, y: Array) -> Field:
    """A random motif of waves repeated on a skewed lattice, mirrored or not."""
    period, skew, mirror = cls.uniform(0.25, 0.7), cls.uniform(-0.5, 0.5), cls.integers(3)
    u, v = x / period + rng.uniform(0, 1), y / period + rng.uniform(0, 1)
    u = u + skew * v
    u, v = u - np.floor(u), v - np.floor(v)
    if mirror:
        u = np.abs(u - 0.5)
    if mirror == 2:
        v = np.abs(v - 0.5)
    motif = np.zeros_like(x)
    for _ in range(cls.integers(2, 5)):
        (a, b), grey = cls.uniform(0, 1, 2), cls.uniform(0.4, 1)
        inside = np.hypot(u - a, (v - b) * cls.uniform(0.6, 2)) < cls.uniform(0.1, 0.3)
        motif = np.maximum(motif, grey * inside)
    return _ones(motif)

"""Drawing with numpy: signed distances, noise, light.  What the synthetic scenes are made of.

Axes: H, W samples of the drawing.  Coordinates run from -1 to 1 over the image, x to the right, y down, so
that a drawing is the same at every size.  Distances are negative inside a shape.  Colours are RGB in 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image

Array = np.ndarray
Colour = Sequence[float]

FEWEST_SAMPLES = 256
"""Along a side of the drawing; smaller images are averaged down from it."""


@dataclass(frozen=True)
class Canvas:
    """The drawing of an image of `side` pixels: `factor` samples per pixel and axis."""

    side: int
    factor: int
    x: Array
    y: Array

    @property
    def size(self) -> int:
        return self.side * self.factor

    def fill(self, distance: Array) -> Array:
        """Coverage 0..1 of the shape with this signed distance, its edge one sample soft."""
        return np.clip(0.5 - distance * np.float32(self.size / 2), 0, 1)

    def noise(self, rng: np.random.Generator, columns: int, rows: int) -> Array:
        """Smooth noise in -1..1 with this many random values across and down: (H, W)."""
        lattice = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
        size = (self.size, self.size)
        return np.clip(np.asarray(Image.fromarray(lattice).resize(size, Image.Resampling.BICUBIC)), -1, 1)

    def pixels(self, image: Array) -> Array:
        """The drawing (H, W, 3) in 0..1 averaged to pixels: uint8 (side, side, 3)."""
        f, n = self.factor, self.side
        mean = np.clip(image, 0, 1).reshape(n, f, n, f, 3).mean(axis=(1, 3))
        return np.floor(mean * 255 + 0.5).astype(np.uint8)


def canvas(side: int) -> Canvas:
    factor = -(-FEWEST_SAMPLES // side)
    axis = (np.arange(side * factor, dtype=np.float32) + 0.5) * (2 / (side * factor)) - 1
    x, y = np.meshgrid(axis, axis)
    return Canvas(side, factor, x, y)


# -- shapes -----------------------------------------------------------------------------------------------------------


def turn(x: Array, y: Array, angle: float) -> tuple[Array, Array]:
    """Coordinates in a frame turned by `angle` radians."""
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return c * x + s * y, c * y - s * x


def disc(x: Array, y: Array, radius: float) -> Array:
    return np.sqrt(x * x + y * y) - np.float32(radius)


def box(x: Array, y: Array, half_width: float, half_height: float, corner: float = 0.0) -> Array:
    """A rectangle about the origin with round corners."""
    dx, dy = np.abs(x) - np.float32(half_width - corner), np.abs(y) - np.float32(half_height - corner)
    outside = np.sqrt(np.maximum(dx, 0) ** 2 + np.maximum(dy, 0) ** 2)
    return outside + np.minimum(np.maximum(dx, dy), 0) - np.float32(corner)


def stroke(x: Array, y: Array, points: Sequence[tuple[float, float]], half_width: float) -> Array:
    """A line through `points` with round ends."""
    distance = np.full_like(x, np.inf)
    for (ax, ay), (bx, by) in pairwise(points):
        dx, dy = bx - ax, by - ay
        t = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy), 0, 1)
        distance = np.minimum(distance, (x - ax - t * dx) ** 2 + (y - ay - t * dy) ** 2)
    return np.sqrt(distance) - np.float32(half_width)


def blob(x: Array, y: Array, rng: np.random.Generator, radius: float, wobble: float = 0.3) -> Array:
    """An irregular round shape about the origin: its radius is a random periodic function of the angle."""
    angle = np.arctan2(y, x)
    factor = np.ones_like(x)
    for k in (1, 2, 3, 5):
        factor += np.float32(wobble * rng.uniform(0.3, 1) / k) * np.cos(k * angle + np.float32(rng.uniform(0, 6.28)))
    stretched_x, stretched_y = turn(x, y, rng.uniform(0, 3.14))
    stretch = np.float32(rng.uniform(1, 1.5))
    return np.sqrt((stretched_x / stretch) ** 2 + (stretched_y * stretch) ** 2) - np.float32(radius) * factor


# -- colour and light -------------------------------------------------------------------------------------------------


def paint(image: Array, coverage: Array, colour: Colour | Array) -> Array:
    """`image` (H, W, 3) with `colour` (3,) or (H, W, 3) laid over it, where `coverage` (H, W) says so."""
    return image + coverage[..., None] * (np.asarray(colour, np.float32) - image)


def shade(image: Array, factor: Array) -> Array:
    return image * factor[..., None].astype(np.float32)


def vary(rng: np.random.Generator, colour: Colour, amount: float) -> Array:
    """A colour up to `amount` off in every channel."""
    return np.asarray(colour, np.float32) + rng.uniform(-amount, amount, 3).astype(np.float32)


@dataclass(frozen=True)
class Light:
    """One lamp: where it stands, how bright and how warm it is."""

    angle: float
    strength: float
    slope: float
    tint: Array
    grain: int

    @property
    def towards(self) -> tuple[float, float]:
        """Unit vector from the middle of the image to the lamp."""
        return float(np.cos(self.angle)), float(np.sin(self.angle))

    def apply(self, c: Canvas, image: Array) -> Array:
        """The lit image with the camera's grain."""
        lx, ly = self.towards
        fall_off = self.strength * (1 + self.slope * (c.x * lx + c.y * ly) - 0.06 * (c.x**2 + c.y**2))
        grain = 0.02 * c.noise(np.random.default_rng(self.grain), 128, 128)
        return shade(image, fall_off) * self.tint + grain[..., None]


def light(rng: np.random.Generator) -> Light:
    """A lamp somewhere at the upper left, a little different every time."""
    return Light(
        angle=rng.uniform(-2.8, -1.6),
        strength=rng.uniform(0.82, 1.1),
        slope=rng.uniform(0.04, 0.18),
        tint=vary(rng, (1, 1, 1), 0.02),
        grain=int(rng.integers(2**31)),
    )


# -- defects that are painted on --------------------------------------------------------------------------------------


def place(rng: np.random.Generator, reach: float, inner: float = 0.0) -> tuple[float, float]:
    """A random point of the ring between the radii `inner` and `reach` about the origin."""
    radius, angle = np.sqrt(rng.uniform(inner**2, reach**2)), rng.uniform(-np.pi, np.pi)
    return float(radius * np.cos(angle)), float(radius * np.sin(angle))


def scratch(c: Canvas, rng: np.random.Generator, at: tuple[float, float], image: Array, colour: Colour) -> Array:
    """A bent line of length 0.6 to 1 with a bright rim: something hard was drawn over the surface."""
    angle, length = rng.uniform(0, np.pi), rng.uniform(0.6, 1.0)
    bend, half_width = rng.uniform(-0.12, 0.12), rng.uniform(0.034, 0.052)
    points = []
    for t in np.linspace(-1, 1, 7):
        along, across = t * length / 2, bend * (1 - t * t)
        points.append(
            (
                at[0] + along * np.cos(angle) - across * np.sin(angle),
                at[1] + along * np.sin(angle) + across * np.cos(angle),
            )
        )
    distance = stroke(c.x, c.y, [(float(px), float(py)) for px, py in points], half_width)
    image = paint(image, 0.35 * c.fill(distance - 0.015), (0.92, 0.92, 0.9))
    return paint(image, rng.uniform(0.75, 1) * c.fill(distance), colour)


def stain(
    c: Canvas,
    rng: np.random.Generator,
    at: tuple[float, float],
    image: Array,
    colour: Colour,
    radius: float,
    strength: float,
    mottle: float = 0.0,
) -> Array:
    """An irregular patch; `mottle` varies its brightness by that share."""
    coverage = strength * c.fill(blob(c.x - at[0], c.y - at[1], rng, radius))
    speckle = 1 + mottle * c.noise(rng, 40, 40)
    return paint(image, coverage, np.asarray(colour, np.float32) * speckle[..., None])

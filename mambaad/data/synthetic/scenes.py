"""The four categories of the synthetic set: two textures (fabric, perforated), two objects (gear, resistor).

Each scene takes a canvas, the random generator of what may vary among good ones (pose, light, colour) and, for a
defective one, the kind of defect with a generator of its own.  The scene's generator is used in the same way with
and without a defect, so both images show the same part in the same place and differ only by the defect.
"""

from __future__ import annotations

import numpy as np

from mambaad.data.synthetic.drawing import (
    Array,
    Canvas,
    blob,
    box,
    disc,
    light,
    paint,
    place,
    scratch,
    shade,
    stain,
    stroke,
    turn,
    vary,
)

Rng = np.random.Generator


def fabric(c: Canvas, rng: Rng, defect: str, flaw: Rng) -> Array:
    """A 2/2 twill of warp and weft threads of similar tone."""
    lamp = light(rng)
    u, v = turn(c.x, c.y, rng.uniform(-0.12, 0.12))
    period = rng.uniform(0.150, 0.166)
    u, v = u / period + rng.uniform(0, 4), v / period + rng.uniform(0, 4)
    u, v = u + 0.12 * c.noise(rng, 5, 5), v + 0.12 * c.noise(rng, 5, 5)  # threads are never quite straight
    warp, weft = vary(rng, (0.42, 0.48, 0.60), 0.04), vary(rng, (0.50, 0.55, 0.66), 0.04)
    i, j = np.floor(u), np.floor(v)
    across, along = u - i - 0.5, v - j - 0.5
    warp_on_top = np.mod(i + j, 4) < 2
    if defect == "colour":  # a few neighbouring weft threads from the wrong bobbin
        first, count = np.floor(flaw.uniform(-4, 2)), flaw.integers(1, 3)
        start, length = flaw.uniform(-5, -1), flaw.uniform(4, 7)
        middle = np.floor(v.mean())
        wrong = (j >= middle + first) & (j < middle + first + count)
        wrong &= (u - u.mean() > start) & (u - u.mean() < start + length)
        dye = ((0.80, 0.25, 0.18), (0.85, 0.65, 0.15), (0.15, 0.5, 0.25))[flaw.integers(3)]
        weft = np.where(wrong[..., None], np.asarray(dye, np.float32), weft)
    thread = np.where(warp_on_top, across, along)
    lengthwise = np.where(warp_on_top, along, across)
    height = np.cos(np.pi * 0.85 * thread) * (0.8 + 0.2 * np.cos(np.pi * lengthwise))
    image = shade(np.where(warp_on_top[..., None], warp, weft), 0.80 + 0.20 * height)
    if defect == "missing":  # a weft thread is gone: a dark gap with slack warp threads over it
        row = np.floor(v.mean() + flaw.uniform(-4, 4))
        start, length = flaw.uniform(-5, -1), flaw.uniform(4, 8)
        gap = (j == row) & (u - u.mean() > start) & (u - u.mean() < start + length)
        slack = shade(np.broadcast_to(warp, image.shape), 0.25 + 0.35 * np.cos(np.pi * across))
        image = np.where((gap & ~warp_on_top)[..., None], np.float32(0.05), np.where(gap[..., None], slack, image))
    elif defect == "scratch":
        image = scratch(c, flaw, place(flaw, 0.6), image, (0.06, 0.05, 0.06))
    elif defect == "spot":
        tone = ((0.10, 0.07, 0.04), (0.30, 0.20, 0.08))[flaw.integers(2)]
        image = stain(c, flaw, place(flaw, 0.7), image, tone, flaw.uniform(0.12, 0.2), flaw.uniform(0.55, 0.8))
    return lamp.apply(c, image)


def perforated(c: Canvas, rng: Rng, defect: str, flaw: Rng) -> Array:
    """A grey sheet with a hexagonal pattern of round holes over a backing of nearly its own tone."""
    lamp = light(rng)
    lx, ly = lamp.towards
    x, y = c.x, c.y
    tilt, spacing = rng.uniform(-0.1, 0.1), rng.uniform(0.205, 0.22)
    phase_x, phase_y = rng.uniform(0, 1), rng.uniform(0, 1)
    dent: Array | float = 0.0
    if defect == "bent":  # a dent: light falls on one flank of it, the other is dark, the holes are drawn in
        at, radius = place(flaw, 0.6), flaw.uniform(0.24, 0.32)
        dx, dy = (x - at[0]) / radius, (y - at[1]) / radius
        bump = np.maximum(1 - dx * dx - dy * dy, 0) ** 2
        x, y = x + 0.12 * radius * dx * bump, y + 0.12 * radius * dy * bump
        dent = flaw.uniform(4.4, 5.6) * (dx * lx + dy * ly) * np.sqrt(bump)
    u, v = turn(x, y, tilt)
    brushed = c.noise(rng, 6, 160) + 0.6 * c.noise(rng, 12, 80)
    steel = shade(np.broadcast_to(vary(rng, (0.62, 0.64, 0.66), 0.02), (*u.shape, 3)), 1 + 0.05 * brushed - 0.35 * dent)

    row_height = spacing * np.float32(np.sqrt(3) / 2)
    row = np.floor(v / row_height + phase_y)
    shift = phase_x + 0.5 * np.mod(row, 2)
    column = np.floor(u / spacing + shift)
    hole_x, hole_y = (column + 0.5 - shift) * spacing, (row + 0.5 - phase_y) * row_height
    hole = disc(u - hole_x, v - hole_y, 0.30 * spacing)
    if defect == "missing":  # holes that were never punched
        at = place(flaw, 0.6)
        distance = (hole_x - at[0]) ** 2 + (hole_y - at[1]) ** 2
        nearest = np.unique(np.round(distance, 4))[: flaw.integers(2, 6)]
        hole = np.where(distance <= nearest[-1] + 1e-4, 1, hole)
    rim = c.fill(np.abs(hole) - 0.016) * np.sign((u - hole_x) * lx + (v - hole_y) * ly)
    image = shade(steel, 1 - 0.10 * rim)
    image = paint(image, 0.65 * c.fill(hole), vary(rng, (0.46, 0.46, 0.48), 0.02))
    if defect == "scratch":
        tone = (0.16, 0.15, 0.14)
        image = scratch(c, flaw, place(flaw, 0.6), image, tone)
    elif defect == "contamination":
        rust = (0.50, 0.24, 0.09)
        image = stain(c, flaw, place(flaw, 0.7), image, rust, flaw.uniform(0.13, 0.2), flaw.uniform(0.75, 0.95), 0.35)
    return lamp.apply(c, image)


def gear(c: Canvas, rng: Rng, defect: str, flaw: Rng) -> Array:
    """A turned steel gear of 8 teeth with four holes and a keyed bore, on a grey-green belt."""
    teeth = 8
    lamp = light(rng)
    lx, ly = lamp.towards
    belt = shade(
        np.broadcast_to(vary(rng, (0.34, 0.41, 0.37), 0.03), (*c.x.shape, 3)),
        1 + 0.05 * c.noise(rng, 48, 48) + 0.05 * c.noise(rng, 4, 4),
    )
    centre, scale, angle = place(rng, 0.02), rng.uniform(0.97, 1.03), rng.uniform(-0.05, 0.05)
    steel = vary(rng, (0.66, 0.66, 0.68), 0.04)
    rings = np.interp(np.linspace(0, 1, 200), np.linspace(0, 1, 60), rng.uniform(-1, 1, 60))

    lost = flaw.integers(1, 3) if defect == "missing" else 0
    first, depth = flaw.integers(teeth), flaw.uniform(0.10, 0.18)
    ragged = flaw.uniform(0, 6.28)

    def outline(dx: float, dy: float) -> tuple[Array, Array, Array]:
        x, y = turn((c.x - centre[0] - dx) / scale, (c.y - centre[1] - dy) / scale, angle)
        radius, turned = np.sqrt(x * x + y * y), np.arctan2(y, x)
        outer = 0.68 + 0.085 * np.clip(1.8 * np.cos(teeth * turned), -1, 1)
        if lost:
            off = np.mod(turned - 2 * np.pi * (first + (lost - 1) / 2) / teeth + np.pi, 2 * np.pi) - np.pi
            broken = 0.615 - depth + 0.02 * np.sin(23 * turned + ragged)
            outer = np.where(np.abs(off) < np.pi * lost / teeth, np.minimum(outer, broken), outer)
        shape = (radius - outer) * 0.8
        bore = np.minimum(disc(x, y, 0.17), box(x - 0.17, y, 0.07, 0.05))
        holes = np.full_like(x, 1)
        for k in range(4):
            a = 2 * np.pi * (k + 0.5) / 4
            holes = np.minimum(holes, disc(x - 0.40 * np.cos(a), y - 0.40 * np.sin(a), 0.105))
        return np.maximum(shape, -np.minimum(bore, holes)) * scale, radius, shape * scale

    shadow = outline(-0.05 * lx, -0.05 * ly)[0]
    body, radius, shape = outline(0.0, 0.0)
    image = shade(belt, 1 - 0.55 * c.fill(shadow - 0.01))
    # Turned metal mirrors the lamp in two opposite sectors, whatever the gear's own angle.
    sheen = np.cos(2 * (np.arctan2(c.y - centre[1], c.x - centre[0]) - lamp.angle))
    turned = rings[np.minimum((radius * 199 / 0.9).astype(np.int64), 199)]
    face = shade(np.broadcast_to(steel, image.shape), 1 + 0.16 * sheen + 0.05 * turned)
    face = shade(
        face, 1 - 0.25 * c.fill(np.abs(radius - 0.565) - 0.012) - 0.18 * c.fill(np.abs(radius - 0.255) - 0.012)
    )
    edge = c.fill(np.abs(shape + 0.015) - 0.015)
    face = shade(face, 1 + 0.15 * edge)
    if defect in ("scratch", "spot", "colour"):
        px, py = place(flaw, 0.58, 0.30)
        at = (centre[0] + px, centre[1] + py)
        if defect == "scratch":
            face = scratch(c, flaw, at, face, (0.05, 0.05, 0.05))
        elif defect == "spot":
            face = stain(c, flaw, at, face, (0.16, 0.10, 0.05), flaw.uniform(0.12, 0.19), flaw.uniform(0.75, 0.95))
        else:  # tempering colours: the part was overheated here
            tone = ((0.25, 0.28, 0.62), (0.66, 0.42, 0.14))[flaw.integers(2)]
            face = stain(c, flaw, at, face, tone, flaw.uniform(0.18, 0.26), flaw.uniform(0.6, 0.85))
    return lamp.apply(c, paint(image, c.fill(body), face))


def resistor(c: Canvas, rng: Rng, defect: str, flaw: Rng) -> Array:
    """An axial resistor with four colour rings and two wires, on cream card."""
    lamp = light(rng)
    lx, ly = lamp.towards
    card = shade(
        np.broadcast_to(vary(rng, (0.80, 0.77, 0.69), 0.035), (*c.x.shape, 3)),
        1 + 0.04 * c.noise(rng, 64, 64) + 0.03 * c.noise(rng, 5, 5),
    )
    centre, scale, angle = place(rng, 0.02), rng.uniform(0.98, 1.02), rng.uniform(-0.06, 0.06)
    coat, wire_tone = vary(rng, (0.33, 0.55, 0.66), 0.025), vary(rng, (0.52, 0.50, 0.49), 0.02)
    rings = [
        (-0.27, (0.45, 0.24, 0.10)),
        (-0.12, (0.08, 0.08, 0.08)),
        (0.03, (0.78, 0.16, 0.12)),
        (0.27, (0.80, 0.62, 0.20)),
    ]

    end = float(flaw.integers(2) * 2 - 1)
    left, right = [(-0.40, 0.0), (-0.92, 0.0)], [(0.40, 0.0), (0.92, 0.0)]
    if defect == "bent":
        kink, turned = flaw.uniform(0.48, 0.58), flaw.uniform(0.5, 1.2) * (flaw.integers(2) * 2 - 1)
        wire = [(0.40, 0.0), (kink, 0.0), (kink + 0.42 * np.cos(turned), 0.42 * np.sin(turned))]
        left, right = ([(-px, py) for px, py in wire], right) if end < 0 else (left, wire)
    cut = flaw.uniform(0.42, 0.55) if defect == "missing" else 1.0
    chip, chip_y = flaw.uniform(0.15, 0.20), float(flaw.integers(2) * 2 - 1) * 0.22
    chip_x, chip_outline = flaw.uniform(-0.25, 0.25), int(flaw.integers(2**31))
    chipped = defect == "missing" and flaw.uniform(0, 1) < 0.5

    def outline(dx: float, dy: float) -> tuple[Array, Array, Array, Array]:
        x, y = turn((c.x - centre[0] - dx) / scale, (c.y - centre[1] - dy) / scale, angle)
        wires = np.minimum(stroke(x, y, left, 0.055), stroke(x, y, right, 0.055))
        caps = np.minimum(box(x + 0.34, y, 0.12, 0.24, 0.1), box(x - 0.34, y, 0.12, 0.24, 0.1))
        body = np.minimum(box(x, y, 0.40, 0.20, 0.05), caps)
        if chipped:
            body = np.maximum(body, -blob(x - chip_x, y - chip_y, np.random.default_rng(chip_outline), chip, 0.15))
        elif defect == "missing":
            wires = np.maximum(wires, x * end - cut)
        return body * scale, wires * scale, x, y

    shadow_body, shadow_wires, _, _ = outline(-0.06 * lx, -0.06 * ly)
    body, wires, x, y = outline(0.0, 0.0)
    image = shade(card, 1 - 0.40 * c.fill(np.minimum(shadow_body, shadow_wires)))
    image = paint(image, c.fill(wires), wire_tone)
    if defect == "colour" and flaw.uniform(0, 1) < 0.6:  # rings of another value
        wrong = ((0.15, 0.55, 0.25), (0.50, 0.20, 0.60), (0.95, 0.95, 0.93), (0.95, 0.85, 0.10))
        which, count = flaw.integers(3), flaw.integers(2, 4)
        rings = [
            (ring_x, wrong[(k + which) % 4] if which <= k < which + count else tone)
            for k, (ring_x, tone) in enumerate(rings)
        ]
        scorched = False
    else:
        scorched = defect == "colour"
    face = np.broadcast_to(coat, image.shape)
    for ring_x, tone in rings:
        face = paint(face, c.fill(np.abs(x - ring_x) - 0.052), tone)
    if scorched:
        mark = blob(x - flaw.uniform(-0.25, 0.25), y - flaw.uniform(-0.08, 0.08), flaw, flaw.uniform(0.16, 0.22))
        face = paint(face, flaw.uniform(0.6, 0.85) * c.fill(mark), (0.20, 0.11, 0.05))
    across = np.clip(y / 0.24, -1, 1)  # a cylinder: bright along its upper third, dark below
    face = shade(face, 0.72 + 0.42 * np.sqrt(np.maximum(1 - (across + 0.3) ** 2 / 1.8, 0)))
    image = paint(image, c.fill(body), face)
    if defect == "contamination":  # drops of solder, anywhere on part or card
        at = place(flaw, 0.55)
        for _ in range(flaw.integers(2, 5)):
            px, py = at[0] + flaw.uniform(-0.18, 0.18), at[1] + flaw.uniform(-0.18, 0.18)
            radius = flaw.uniform(0.06, 0.11)
            drop = blob(c.x - px, c.y - py, flaw, radius, 0.2)
            image = paint(image, c.fill(drop), (0.36, 0.37, 0.40))
            image = paint(
                image,
                c.fill(disc(c.x - px - 0.3 * radius * lx, c.y - py - 0.3 * radius * ly, 0.4 * radius)),
                (0.9, 0.9, 0.92),
            )
    return lamp.apply(c, image)

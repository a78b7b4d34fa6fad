"""GPU kernels of the routed scan, in Triton.  `triton.py` allocates, launches and adds up what they write.

Axes: B batch, K scan routes, L tokens, D channels, N state size, R rank of the step sizes, P = R + 2N; T steps of a
tile, BD channels of a block, S segments of time.  A program has one image, one route, one block of channels and one
segment.  It walks the segment tile by tile, for each state n holding (T, BD) values in registers.

A thread of the GPU owns whole channels: with BD >= 32 channels over the 32 threads of a program, all T steps of a
channel lie in one thread.  Then `_row` takes a step out of a tile by naming registers, and the recurrence is T
multiply-adds without a shuffle, where `tl.associative_scan` would shuffle (its reversed form always does).  The layout
follows from one choice: the sizes are `do_not_specialize`, so that the compiler cannot prove rows aligned and spreads
single channels over the threads instead of short vectors.  Tokens are wide rows, so memory is read in full sectors
anyway.  The loads and exponentials of the T steps are independent of each other and hide each other's latency.

The step sizes are made here, by R multiply-adds per token and channel: little beside the N states, where a matrix
product outside would write and read an array K times as large as x.  What does not fit into registers (one state per n,
sums over time) passes through memory that only this program touches.
"""

import inspect
from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
SIZES = ["L", "K", "D", "N", "R", "blocks", "segments", "stretches", "stretches_per_segment"]


def _jit(function: Callable[..., Any]) -> Any:
    """`triton.jit` of the function itself, also where a type checker's import hook has wrapped it."""
    function = inspect.unwrap(function)
    return triton.jit(function, do_not_specialize=[x for x in SIZES if x in inspect.signature(function).parameters])


@_jit
def _softplus(z):
    """log(1 + exp(z)), accurate also where it is small: log1p(e) = 2 artanh(e / (2 + e)) for e <= 1, as a series."""
    e = tl.exp(-tl.abs(z))
    s = e / (2.0 + e)
    q = s * s
    series = 1 / 9 + q * (1 / 11 + q * (1 / 13 + q * (1 / 15)))
    series = 1.0 + q * (1 / 3 + q * (1 / 5 + q * (1 / 7 + q * series)))
    return tl.maximum(z, 0.0) + 2.0 * s * series


@_jit
def _softplus_slope(delta):
    """sigmoid(z) = 1 - exp(-δ) for δ = softplus(z); as a series where the difference would cancel."""
    series = delta * (1 - delta / 2 * (1 - delta / 3 * (1 - delta / 4 * (1 - delta / 5))))
    return tl.where(delta < 0.125, series, 1 - tl.exp(-delta))


@_jit
def _load_tile(
    x, projected, table, dt_proj, dt_bias, tile, b, k, row, channel, L, K, D, N, R, T: tl.constexpr, BD: tl.constexpr
):
    """Of the steps of a tile: whether they exist, their tokens, pointers to projected rows (T, 1), x and δ (T, BD).

    After the last token x and δ are 0, which leaves the state as it is.
    """
    live = tile * T + row < L
    wide = channel < D
    token = tl.load(table + k * L + tile * T + row, mask=live, other=0)
    rows = projected + ((b * L + token) * K + k) * (R + 2 * N)
    z = tl.zeros((T, BD), tl.float32) + tl.load(dt_bias + k * D + channel, mask=wide, other=0.0)
    for r in range(R):
        dt = tl.load(rows + r, mask=live, other=0.0).to(tl.float32)
        z += dt * tl.load(dt_proj + (k * R + r) * D + channel, mask=wide, other=0.0)
    x_t = tl.load(x + (b * L + token) * D + channel, mask=live & wide, other=0.0).to(tl.float32)
    return live, token, rows, x_t, tl.where(live, _softplus(z), 0.0)


@_jit
def _row(values, row, index: tl.constexpr):
    """Row `index` of (T, BD) as (1, BD).  A sum of integers: the compiler folds its zeros away, which floats forbid."""
    bits = values.to(tl.int32, bitcast=True)
    return tl.sum(tl.where(row == index, bits, 0), axis=0, keep_dims=True).to(tl.float32, bitcast=True)


@_jit
def _states(decay, drive, h, row, T: tl.constexpr):
    """h_t = a_t h_{t-1} + b_t through a tile, from h (1, BD) before it; returns all h (T, BD) and the last (1, BD)."""
    states = drive
    for t in tl.static_range(T):
        h = _row(decay, row, t) * h + _row(drive, row, t)
        states = tl.where(row == t, h, states)
    return states, h


@_jit
def _decayed_states(decay, drive, h, row, T: tl.constexpr):
    """a_t h_{t-1} (T, BD), made without the difference h_t - b_t, which cancels where a_t is small."""
    decayed = drive
    for t in tl.static_range(T):
        passed = _row(decay, row, t) * h
        decayed = tl.where(row == t, passed, decayed)
        h = passed + _row(drive, row, t)
    return decayed


@_jit
def _adjoints(decay, drive, passed, row, T: tl.constexpr):
    """g_t = c_t + a_{t+1} g_{t+1}, backwards; `passed` is a_{t+1} g_{t+1} after the tile, returned before it."""
    g = drive
    for i in tl.static_range(T):
        g_t = _row(drive, row, T - 1 - i) + passed
        g = tl.where(row == T - 1 - i, g_t, g)
        passed = _row(decay, row, T - 1 - i) * g_t
    return g, passed


@_jit
def scan_kernel(
    x, projected, table, dt_proj, dt_bias, A, skip, state, starts, time, y,
    L, K, D, N, R, blocks, segments, stretches, stretches_per_segment,
    OUTPUT: tl.constexpr, SAVE: tl.constexpr, T: tl.constexpr, BD: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """Walk forwards from `state`, which ends as the state after the segment.

    x (B, L, D), projected (B, L, K, P), table (K, L), dt_proj (K, R, D), dt_bias, skip (K, D), A (K, N, D),
    state (B, K, S, N, D).  OUTPUT: writes y (B, K, L, D) in image order, and with SAVE the state before each stretch of
    TILES tiles into starts (B, K, stretches, N, D).  Otherwise writes the sum of δ into time (B, K, S, D).
    """
    program = tl.program_id(0)
    s = program // blocks % segments
    bk = (program // blocks // segments).to(tl.int64)
    b, k = bk // K, bk % K
    row = tl.arange(0, T)[:, None]
    channel = program % blocks * BD + tl.arange(0, BD)[None, :]
    wide = channel < D
    A += k * N * D
    state += (bk * segments + s) * N * D
    starts += bk * stretches * N * D
    passed = tl.zeros((1, BD), tl.float32)
    first = s * stretches_per_segment * TILES
    for tile in range(first, tl.minimum(first + stretches_per_segment * TILES, tl.cdiv(L, T))):
        live, token, rows, x_t, delta = _load_tile(
            x, projected, table, dt_proj, dt_bias, tile, b, k, row, channel, L, K, D, N, R, T, BD
        )
        u = delta * x_t
        y_t = x_t
        if OUTPUT:
            y_t = x_t * tl.load(skip + k * D + channel, mask=wide, other=0.0)
        for n in range(N):
            decay = tl.exp2(delta * (tl.load(A + n * D + channel, mask=wide, other=0.0) * LOG2_E))
            start = tl.load(state + n * D + channel, mask=wide, other=0.0)
            drive = u * tl.load(rows + R + n, mask=live, other=0.0).to(tl.float32)
            h, end = _states(decay, drive, start, row, T)
            tl.store(state + n * D + channel, end, mask=wide)
            if OUTPUT:
                y_t += h * tl.load(rows + R + N + n, mask=live, other=0.0).to(tl.float32)
            if SAVE:
                saved = starts + (tile // TILES * N + n) * D + channel
                tl.store(saved, start, mask=wide & (tile % TILES == 0))
        if OUTPUT:
            tl.store(y + (bk * L + token) * D + channel, y_t, mask=live & wide)
        else:
            passed += tl.sum(delta, axis=0, keep_dims=True)
        tl.debug_barrier()  # the next tile reads `state`, perhaps in other threads
    if not OUTPUT:
        tl.store(time + (bk * segments + s) * D + channel, passed, mask=wide)


@_jit
def carry_kernel(state, time, A, K, D, N, blocks, segments, REVERSE: tl.constexpr, BD: tl.constexpr):
    """Turn what each segment yields from zero into what comes into it, in place: the decay over a segment is exp(A Σδ).

    state (B, K, S, N, D), time (B, K, S, D), A (K, N, D).  REVERSE: the adjoint, from the last segment to the first.
    """
    program = tl.program_id(0)
    channel = program % blocks * BD + tl.arange(0, BD)
    wide = channel < D
    n = program // blocks % N
    bk = (program // blocks // N).to(tl.int64)
    rate = tl.load(A + (bk % K * N + n) * D + channel, mask=wide, other=0.0) * LOG2_E
    carry = tl.zeros((BD,), tl.float32)
    for i in range(segments):
        at = bk * segments + (segments - 1 - i if REVERSE else i)
        entry = state + (at * N + n) * D + channel
        own = tl.load(entry, mask=wide, other=0.0)
        tl.store(entry, carry, mask=wide)
        carry = tl.exp2(rate * tl.load(time + at * D + channel, mask=wide, other=0.0)) * carry + own


@_jit
def adjoint_kernel(
    x, projected, table, dt_proj, dt_bias, A, skip, dy, starts, scratch, adjoint, dx, dprojected, dparameters,
    L, K, D, N, R, blocks, segments, stretches, stretches_per_segment,
    GRADIENTS: tl.constexpr, T: tl.constexpr, BD: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """Walk backwards from `adjoint` (B, K, S, N, D), a_{t+1} g_{t+1} after the segment; it ends as the one before it.

    dy (B, L, D), starts as `scan_kernel` wrote it, the others as there.  GRADIENTS: computes the states of each stretch
    again (scratch, (B, K, S, TILES, N, D), holds those before its tiles) and writes dx (B, K, L, D) and dprojected
    (blocks, B, L, K, P) in image order; adds dA, ddt_proj, ddt_bias and dD to dparameters (B, K, S, N + R + 2, D).
    """
    program = tl.program_id(0)
    block = program % blocks
    s = program // blocks % segments
    bk = (program // blocks // segments).to(tl.int64)
    b, k = bk // K, bk % K
    row = tl.arange(0, T)[:, None]
    channel = block * BD + tl.arange(0, BD)[None, :]
    wide = channel < D
    A += k * N * D
    starts += bk * stretches * N * D
    scratch += (bk * segments + s) * TILES * N * D
    adjoint += (bk * segments + s) * N * D
    dprojected += (block.to(tl.int64) * (tl.num_programs(0) // blocks // segments // K) + b) * L * K * (R + 2 * N)
    dparameters += (bk * segments + s) * (N + R + 2) * D
    weight = tl.load(skip + k * D + channel, mask=wide, other=0.0)
    dskip = tl.zeros((1, BD), tl.float32)
    dbias = tl.zeros((1, BD), tl.float32)
    last = tl.minimum((s + 1) * stretches_per_segment, stretches) - 1
    for i in range(last + 1 - s * stretches_per_segment):
        first = (last - i) * TILES
        tiles = tl.minimum(TILES, tl.cdiv(L, T) - first)
        tl.debug_barrier()  # here and below: what a tile left in memory, the next one reads, perhaps in other threads
        if GRADIENTS:
            for n in range(N):
                start = tl.load(starts + ((last - i) * N + n) * D + channel, mask=wide, other=0.0)
                tl.store(scratch + n * D + channel, start, mask=wide)
            for j in range(tiles - 1):  # each of these tiles is full
                tl.debug_barrier()
                live, token, rows, x_t, delta = _load_tile(
                    x, projected, table, dt_proj, dt_bias, first + j, b, k, row, channel, L, K, D, N, R, T, BD
                )
                u = delta * x_t
                for n in range(N):
                    decay = tl.exp2(delta * (tl.load(A + n * D + channel, mask=wide, other=0.0) * LOG2_E))
                    start = tl.load(scratch + (j * N + n) * D + channel, mask=wide, other=0.0)
                    drive = u * tl.load(rows + R + n, mask=live, other=0.0).to(tl.float32)
                    _h, end = _states(decay, drive, start, row, T)
                    tl.store(scratch + ((j + 1) * N + n) * D + channel, end, mask=wide)
        for back in range(tiles):
            tl.debug_barrier()
            j = tiles - 1 - back
            live, token, rows, x_t, delta = _load_tile(
                x, projected, table, dt_proj, dt_bias, first + j, b, k, row, channel, L, K, D, N, R, T, BD
            )
            u = delta * x_t
            drows = dprojected + (token * K + k) * (R + 2 * N)
            at = (b * L + token) * D + channel
            dy_t = tl.load(dy + at, mask=live & wide, other=0.0).to(tl.float32)
            du = tl.zeros((T, BD), tl.float32)
            ddelta = tl.zeros((T, BD), tl.float32)
            for n in range(N):
                rate = tl.load(A + n * D + channel, mask=wide, other=0.0)
                B = tl.load(rows + R + n, mask=live, other=0.0).to(tl.float32)
                C = tl.load(rows + R + N + n, mask=live, other=0.0).to(tl.float32)
                after = tl.load(adjoint + n * D + channel, mask=wide, other=0.0)
                decay = tl.exp2(delta * (rate * LOG2_E))
                g, before = _adjoints(decay, C * dy_t, after, row, T)
                tl.store(adjoint + n * D + channel, before, mask=wide)
                if GRADIENTS:
                    start = tl.load(scratch + (j * N + n) * D + channel, mask=wide, other=0.0)
                    decayed = _decayed_states(decay, u * B, start, row, T)
                    tl.store(drows + R + n, tl.sum(u * g, axis=1, keep_dims=True), mask=live)
                    tl.store(drows + R + N + n, tl.sum(dy_t * (decayed + u * B), axis=1, keep_dims=True), mask=live)
                    exponent = g * decayed  # of δ A, which both share
                    du += B * g
                    ddelta += rate * exponent
                    drate = dparameters + n * D + channel
                    total = tl.load(drate, mask=wide, other=0.0)
                    tl.store(drate, total + tl.sum(delta * exponent, axis=0, keep_dims=True), mask=wide)
            if GRADIENTS:
                x_t = tl.load(x + at, mask=live & wide, other=0.0).to(tl.float32)  # again: registers are short above
                tl.store(dx + (bk * L + token) * D + channel, delta * du + weight * dy_t, mask=live & wide)
                dz = (x_t * du + ddelta) * _softplus_slope(delta)
                dskip += tl.sum(x_t * dy_t, axis=0, keep_dims=True)
                dbias += tl.sum(dz, axis=0, keep_dims=True)
                for r in range(R):
                    dt = tl.load(rows + r, mask=live, other=0.0).to(tl.float32)
                    column = tl.load(dt_proj + (k * R + r) * D + channel, mask=wide, other=0.0)
                    tl.store(drows + r, tl.sum(dz * column, axis=1, keep_dims=True), mask=live)
                    dcolumn = dparameters + (N + r) * D + channel
                    total = tl.load(dcolumn, mask=wide, other=0.0)
                    tl.store(dcolumn, total + tl.sum(dz * dt, axis=0, keep_dims=True), mask=wide)
    if GRADIENTS:
        tl.store(dparameters + (N + R) * D + channel, dbias, mask=wide)
        tl.store(dparameters + (N + R + 1) * D + channel, dskip, mask=wide)

"""Scan orders: in which order the tokens of a square feature map are visited.  Paper: section 3.3, figure 3.

Token index = row * side + column.  A scan order is a permutation of the tokens: entry t is the token visited
at step t.  Neighbours on the Hilbert curve are neighbours in the image, which is the paper's reason to prefer it.
"""

import torch
from jaxtyping import Int64
from torch import Tensor

POWER_OF_TWO_ONLY = ("zorder", "hilbert")


def scan_order(method: str, side: int) -> Int64[Tensor, " L"]:
    """Tokens of a side x side map in visiting order; L = side * side.

    Methods: "sweep" (row by row), "scan" (row by row, every other row backwards), "zorder" (Morton curve),
    "zigzag" (anti-diagonals, as in JPEG), "hilbert".

    Raises:
        ValueError: unknown method, side below 1, or a side that the curve does not fill ("zorder" and "hilbert"
            need a power of two).

    Example:
        >>> scan_order("scan", 3).tolist()
        [0, 1, 2, 5, 4, 3, 6, 7, 8]
        >>> scan_order("hilbert", 2).tolist()
        [0, 2, 3, 1]
    """
    if method not in _ORDERS:
        raise ValueError(f"scan method must be one of {', '.join(_ORDERS)}; got {method!r}")
    if side < 1:
        raise ValueError(f"side must be at least 1 token, got {side}")
    if method in POWER_OF_TWO_ONLY and side & (side - 1):
        raise ValueError(
            f"the {method} curve needs a side that is a power of two (1, 2, 4, 8, 16, 32, 64, ...), got {side} tokens: "
            "use an image side of 64, 128, 256, 512 or 1024 pixels, or the method sweep, scan or zigzag"
        )
    return torch.tensor(_ORDERS[method](side), dtype=torch.int64)


def _sweep(side: int) -> list[int]:
    return list(range(side * side))


def _scan(side: int) -> list[int]:
    rows = [[row * side + column for column in range(side)] for row in range(side)]
    return [token for row, tokens in enumerate(rows) for token in (tokens[::-1] if row % 2 else tokens)]


def _zorder(side: int) -> list[int]:
    """The step's even bits are the column, its odd bits the row."""
    bits = side.bit_length() - 1

    def token(step: int) -> int:
        column = sum((step >> (2 * b) & 1) << b for b in range(bits))
        row = sum((step >> (2 * b + 1) & 1) << b for b in range(bits))
        return row * side + column

    return [token(step) for step in range(side * side)]


def _zigzag(side: int) -> list[int]:
    order = []
    for diagonal in range(2 * side - 1):
        first, last = max(0, diagonal - side + 1), min(diagonal, side - 1)
        tokens = [row * side + (diagonal - row) for row in range(first, last + 1)]  # from upper right to lower left
        order += tokens if diagonal % 2 else tokens[::-1]
    return order


def _hilbert(side: int) -> list[int]:
    """Four half-size curves: transposed, as it is, as it is, and transposed about the other diagonal."""
    curve = [(0, 0)]  # (row, column) in visiting order, from the upper left to the upper right corner
    half = 1
    while half < side:
        first = [(c, r) for r, c in curve]
        second = [(r + half, c) for r, c in curve]
        third = [(r + half, c + half) for r, c in curve]
        fourth = [(half - 1 - c, 2 * half - 1 - r) for r, c in curve]
        curve = first + second + third + fourth
        half *= 2
    return [r * side + c for r, c in curve]


_ORDERS = {"sweep": _sweep, "scan": _scan, "zorder": _zorder, "zigzag": _zigzag, "hilbert": _hilbert}

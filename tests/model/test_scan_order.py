"""Scan orders and routes: their definitions, the libraries the published code takes them from, permutations."""

import pytest
import torch
from hilbert import decode
from hypothesis import given
from hypothesis import strategies as st
from pyzorder import ZOrderIndexer
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from mambaad.config import SCAN_METHODS
from mambaad.config.model import ScanMethod
from mambaad.model.routes import cached_routes, hybrid_routes, method_routes
from mambaad.model.scan_order import POWER_OF_TWO_ONLY, scan_order
from mambaad.ops.routed_scan import hs_decode, hs_encode
from mambaad.ops.routed_scan.gathered import inverse_of

AT_4 = {
    "sweep": list(range(16)),
    "scan": [0, 1, 2, 3, 7, 6, 5, 4, 8, 9, 10, 11, 15, 14, 13, 12],
    "zorder": [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15],
    "zigzag": [0, 1, 4, 8, 5, 2, 3, 6, 9, 12, 13, 10, 7, 11, 14, 15],
    "hilbert": [0, 1, 5, 4, 8, 12, 13, 9, 10, 14, 15, 11, 7, 6, 2, 3],
}
SCANS = [
    (("hilbert", 8),),
    (("sweep", 4),),
    (("zigzag", 2),),
    (("scan", 2), ("zorder", 2), ("zigzag", 2), ("hilbert", 2)),
]


@pytest.mark.parametrize("method", SCAN_METHODS)
def test_order_of_sixteen_tokens(method: str) -> None:
    assert scan_order(method, 4).tolist() == AT_4[method]


@pytest.mark.parametrize("method", SCAN_METHODS)
@pytest.mark.parametrize("side", [1, 2, 4, 8, 16, 32, 64])
def test_order_visits_every_token_once(method: str, side: int) -> None:
    assert scan_order(method, side).sort().values.tolist() == list(range(side * side))


@pytest.mark.parametrize("side", [2, 4, 8, 16, 32, 64])
def test_curves_are_those_of_the_libraries(side: int) -> None:
    steps = range(side * side)
    points = decode(list(steps), 2, side.bit_length() - 1)
    assert scan_order("hilbert", side).tolist() == [int(x) + int(y) * side for x, y in points]
    indexer = ZOrderIndexer((0, side - 1), (0, side - 1))
    assert scan_order("zorder", side).tolist() == [c * side + r for r, c in map(indexer.rc, steps)]


@pytest.mark.parametrize("method", ["scan", "hilbert"])
def test_neighbours_on_the_path_are_neighbours_in_the_image(method: str) -> None:
    order = scan_order(method, 16)
    row, column = order // 16, order % 16
    assert ((row.diff().abs() + column.diff().abs()) == 1).all()


def test_zigzag_runs_along_antidiagonals() -> None:
    order = scan_order("zigzag", 9)
    diagonal = order // 9 + order % 9
    assert (diagonal.diff() >= 0).all()
    assert (diagonal.diff() <= 1).all()


@pytest.mark.parametrize("method", SCAN_METHODS)
@pytest.mark.parametrize("number", [2, 4, 8])
def test_second_half_of_the_routes_is_the_first_reversed(method: str, number: int) -> None:
    routes = method_routes(method, number, 8)
    assert routes.shape == (number, 64)
    assert torch.equal(routes[number // 2 :], routes[: number // 2].flip(1))


def test_routes_read_the_image_plain_transposed_rotated_and_rotated_transposed() -> None:
    image = torch.randn(8, 8)
    rotated = torch.rot90(image, 1, (0, 1))
    wanted = [view.reshape(-1) for view in (image, image.T, rotated, rotated.T)]
    for k, route in enumerate(method_routes("sweep", 8, 8)[:4]):
        assert torch.equal(image.reshape(-1)[route], wanted[k])


@pytest.mark.parametrize("side", [2, 8, 64])
def test_eight_routes_are_six_paths_where_a_mirrored_curve_is_the_curve_backwards(side: int) -> None:
    """What the book says of hilbert and scan, and that fewer routes never coincide."""
    for method in SCAN_METHODS:
        paths = {number: len(method_routes(method, number, side).unique(dim=0)) for number in (2, 4, 8)}
        if side > 2:
            assert paths == {2: 2, 4: 4, 8: 6 if method in ("hilbert", "scan") else 8}
    hilbert, scan = method_routes("hilbert", 8, side), method_routes("scan", 8, side)
    assert torch.equal(hilbert[[0, 3]], hilbert[[7, 4]])
    assert torch.equal(scan[[1, 2]], scan[[6, 5]])


def test_routes_made_while_a_graph_is_traced_are_not_kept() -> None:
    scan, device = (("zigzag", 2),), torch.device("cpu")
    with FakeTensorMode():
        assert type(cached_routes(scan, 4, device)) is not torch.Tensor
    assert torch.equal(cached_routes(scan, 4, device), hybrid_routes(scan, 4))
    assert cached_routes(scan, 4, device) is cached_routes(scan, 4, device)


def test_hybrid_routes_are_the_first_routes_of_each_method() -> None:
    routes = hybrid_routes((("sweep", 4), ("hilbert", 4)), 8)
    assert torch.equal(routes, torch.cat([method_routes("sweep", 4, 8), method_routes("hilbert", 4, 8)]))


def routes_and_inverse(scan: tuple[tuple[ScanMethod, int], ...], side: int) -> tuple[Tensor, Tensor]:
    routes = cached_routes(scan, side, torch.device("cpu"))
    assert torch.equal(inverse_of(routes), routes.argsort(dim=1))
    return routes, inverse_of(routes)


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("side", [2, 8])
def test_decode_inverts_encode(scan: tuple[tuple[ScanMethod, int], ...], side: int) -> None:
    x = torch.randn(3, side * side, 5)
    both = routes_and_inverse(scan, side)
    k = both[0].shape[0]
    assert torch.allclose(hs_decode(hs_encode(x, *both), *both), k * x)


@given(st.integers(1, 3), st.sampled_from(SCANS))
def test_encode_and_decode_are_adjoint(batch: int, scan: tuple[tuple[ScanMethod, int], ...]) -> None:
    both = routes_and_inverse(scan, 4)
    x = torch.randn(batch, 16, 3, dtype=torch.float64, requires_grad=True)
    y = torch.randn(batch, both[0].shape[0], 16, 3, dtype=torch.float64, requires_grad=True)
    left, right = (hs_encode(x, *both) * y).sum(), (x * hs_decode(y, *both)).sum()
    assert torch.allclose(left, right)
    for a, b in zip(torch.autograd.grad(left, (x, y)), torch.autograd.grad(right, (x, y)), strict=True):
        assert torch.allclose(a, b)


def test_gradients_of_encode_and_decode() -> None:
    both = routes_and_inverse((("hilbert", 8),), 2)
    x = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    y = torch.randn(2, 8, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: hs_encode(x, *both), (x,))
    assert torch.autograd.gradcheck(lambda y: hs_decode(y, *both), (y,))


@pytest.mark.parametrize("method", POWER_OF_TWO_ONLY)
def test_a_side_the_curve_does_not_fill_is_refused(method: str) -> None:
    with pytest.raises(ValueError, match=f"{method} curve needs a side that is a power of two"):
        scan_order(method, 6)


def test_unknown_method_and_number_of_routes_are_refused() -> None:
    with pytest.raises(ValueError, match="scan method must be one of sweep"):
        scan_order("peano", 4)
    with pytest.raises(ValueError, match="at least 1 token"):
        scan_order("sweep", 0)
    with pytest.raises(ValueError, match="2, 4 or 8 routes, got 3"):
        method_routes("sweep", 3, 4)

"""The compiled scan as an operator of onnxruntime, mambaad::RoutedScan, against the definition in torch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mambaad.ops.routed_scan import native, routed_scan, routed_scan_reference
from mambaad.ops.routed_scan.onnx_scan import KERNEL, routed_scan_onnx_native

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.skipif(native.unavailable() is not None, reason=str(native.unavailable()))

NAMES = ("x", "projected", "routes", "dt_proj", "dt_bias", "A", "D")


def arguments(batch: int, length: int, channels: int, routes: int, states: int, rank: int) -> tuple[Tensor, ...]:
    return (
        torch.randn(batch, length, channels),
        torch.randn(batch, length, routes, rank + 2 * states),
        torch.stack([torch.randperm(length) for _ in range(routes)]),
        torch.randn(routes, channels, rank),
        torch.randn(routes, channels),
        -torch.rand(routes, channels, states) - 0.05,
        torch.randn(routes, channels),
    )


def session(threads: int) -> Any:
    """A graph of the operator alone, its inputs of any size."""
    from onnx import TensorProto, helper

    domain, operator = KERNEL.split("::")
    values = [
        helper.make_tensor_value_info(name, TensorProto.INT64 if name == "routes" else TensorProto.FLOAT, None)
        for name in NAMES
    ]
    node = helper.make_node(operator, NAMES, ["y"], domain=domain)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    model = helper.make_model(
        helper.make_graph([node], "scan", values, [y]),
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(domain, 1)],
        ir_version=9,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # errors come as exceptions
    options.register_custom_ops_library(str(native.library_path()))
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module", params=[1, 3], ids=["1 thread", "3 threads"])
def run(request: pytest.FixtureRequest) -> Any:
    found = session(request.param)
    return lambda tensors: found.run(None, {name: v.numpy() for name, v in zip(NAMES, tensors, strict=True)})[0]


@settings(max_examples=25)
@given(
    sizes=st.tuples(
        st.integers(1, 4),
        st.integers(1, 70),
        st.integers(1, 150),
        st.integers(1, 4),
        st.integers(1, 17),
        st.integers(1, 9),
    )
)
def test_the_operator_is_the_definition(run: Any, sizes: Sequence[int]) -> None:
    tensors = arguments(*sizes)
    wanted = routed_scan_reference(*tensors)
    torch.testing.assert_close(torch.from_numpy(run(tensors)), wanted, rtol=1e-4, atol=2e-5 * float(wanted.abs().max()))


def test_the_operator_equals_the_kernel_in_torch_to_the_bit(run: Any) -> None:
    """What it sums, it sums over routes and states, never over threads."""
    tensors = arguments(3, 256, 200, 8, 16, 4)
    assert np.array_equal(run(tensors), routed_scan(*tensors, backend="native").numpy())
    assert np.array_equal(run(tensors), routed_scan(*tensors, backend="onnx_native").numpy())


def test_a_batch_of_no_image_is_fine(run: Any) -> None:
    assert run(arguments(0, 16, 8, 2, 4, 2)).shape == (0, 16, 8)


@pytest.mark.parametrize(
    ("place", "wrong", "says"),
    [
        (0, torch.zeros(2, 16), r"x must have 3 axes, got 2"),
        (1, torch.zeros(2, 16, 2, 9), r"axis 3 of projected must be 10 to go with x, A and dt_proj, got 9"),
        (2, torch.zeros(2, 15, dtype=torch.int64), r"axis 1 of routes must be 16 .* got 15"),
        (2, torch.full((2, 16), 16), r"each route must hold every token, 0 to L - 1, once"),
        (2, torch.full((2, 16), -1), r"each route must hold every token, 0 to L - 1, once"),
        (2, torch.zeros(2, 16, dtype=torch.int64), r"each route must hold every token, 0 to L - 1, once"),
        (4, torch.zeros(2, 7), r"axis 1 of dt_bias must be 8 .* got 7"),
        (6, torch.zeros(8), r"D must have 2 axes, got 1"),
    ],
)
def test_sizes_and_routes_that_do_not_fit_are_refused(run: Any, place: int, wrong: Tensor, says: str) -> None:
    tensors = list(arguments(2, 16, 8, 2, 4, 2))
    tensors[place] = wrong
    with pytest.raises(Exception, match=says):
        run(tensors)
    assert run(arguments(2, 16, 8, 2, 4, 2)).shape == (2, 16, 8)  # and the session goes on


def test_a_graph_without_a_route_is_refused(run: Any) -> None:
    x, projected, *rest = arguments(2, 16, 8, 1, 4, 2)
    with pytest.raises(Exception, match="at least one route"):
        run([x, projected[:, :, :0], *(tensor[:0] for tensor in rest)])


def test_float64_is_refused_by_the_graph_and_by_torch() -> None:
    tensors = [v.double() if v.is_floating_point() else v for v in arguments(1, 4, 2, 1, 2, 1)]
    with pytest.raises(ValueError, match="computes in float32, got x in float64"):
        routed_scan_onnx_native(*tensors)


def test_many_sessions_register_the_same_library() -> None:
    tensors = arguments(1, 9, 5, 2, 3, 2)
    feed = {name: v.numpy() for name, v in zip(NAMES, tensors, strict=True)}
    first, second = session(1), session(2)
    wanted = first.run(None, feed)[0]
    del first
    assert np.array_equal(second.run(None, feed)[0], wanted)
    assert np.array_equal(session(1).run(None, feed)[0], wanted)

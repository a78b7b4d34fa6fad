"""Routed scan: the fast backends against the definition, outputs and every gradient."""

import json
import math
import os
import subprocess
import sys
from typing import Any

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mambaad.config import SCAN_METHODS
from mambaad.model.routes import hybrid_routes
from mambaad.ops import routed_scan as package
from mambaad.ops.routed_scan import backends, describe, native, pick_backend, routed_scan, unavailable

NAMES = ("y", "x", "projected", "dt_proj", "dt_bias", "A", "D")
TOLERANCE = 5e-6  # of the largest value of each array: float32 against the definition in float64
needs_library = pytest.mark.skipif(native.unavailable() is not None, reason=f"{native.unavailable()}")


def make_inputs(
    routes: Tensor, batch: int = 1, width: int = 20, size: int = 16, rank: int = 4, seed: int = 0
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    K, length = routes.shape

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return [
        normal(batch, length, width),
        normal(batch, length, K, rank + 2 * size),
        routes,
        normal(K, width, rank) / math.sqrt(rank),
        normal(K, width) - 2,
        -torch.arange(1, size + 1) * torch.exp(0.3 * normal(K, width, size)),
        normal(K, width),
    ]


def random_routes(number: int, length: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(length, generator=generator) for _ in range(number)])


def seven(inputs: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The arguments of a scan, counted: behind them stand others."""
    x, projected, routes, dt_proj, dt_bias, A, D = inputs
    return x, projected, routes, dt_proj, dt_bias, A, D


def outputs_and_gradients(inputs: list[Tensor], **options: Any) -> dict[str, Tensor]:
    function = options.pop("function", routed_scan)
    leaves = [v.detach().requires_grad_() if v.is_floating_point() else v for v in inputs]
    y = function(*leaves, **options)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.dtype)
    gradients = torch.autograd.grad((y * weight).sum(), [v for v in leaves if v.is_floating_point()])
    return dict(zip(NAMES, [y.detach(), *gradients], strict=True))


def defined(inputs: list[Tensor]) -> dict[str, Tensor]:
    exact = [v.double() if v.is_floating_point() else v for v in inputs]
    return outputs_and_gradients(exact, backend="reference")


def assert_agree(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = TOLERANCE) -> None:
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        error = (found[name].double() - value).abs().max() / value.abs().max().clamp(min=1e-30)
        assert error <= tolerance, f"{name}: {error:.2g}"


# -- the definition


def test_definition_is_the_recurrence_written_out() -> None:
    """Token by token and number by number, for two routes."""
    routes = torch.tensor([[2, 0, 1, 3], [1, 3, 2, 0]])
    x, projected, _, W, bias, A, D = (
        v.double() if v.is_floating_point() else v for v in make_inputs(routes, 2, width=3, size=2, rank=1)
    )
    y = torch.zeros_like(x)
    for b in range(2):
        for k in range(2):
            for d in range(3):
                h = [0.0, 0.0]
                for token in routes[k].tolist():
                    dt, *BC = projected[b, token, k].tolist()
                    delta = math.log1p(math.exp(float(W[k, d, 0]) * dt + float(bias[k, d])))
                    for n in range(2):
                        h[n] = math.exp(delta * float(A[k, d, n])) * h[n] + delta * BC[n] * float(x[b, token, d])
                        y[b, token, d] += BC[2 + n] * h[n]
                    y[b, token, d] += D[k, d] * x[b, token, d]
    found = routed_scan(x, projected, routes, W, bias, A, D, backend="reference")
    assert torch.allclose(found, y, rtol=1e-12)


@pytest.mark.parametrize("backend", ["chunked", "exportable", "onnx"])
def test_backends_without_a_kernel_agree_with_the_definition(backend: str) -> None:
    inputs = make_inputs(hybrid_routes((("hilbert", 4), ("sweep", 4)), 8), batch=2)
    assert_agree(outputs_and_gradients(inputs, backend=backend), defined(inputs))


@given(length=st.integers(1, 70), batch=st.integers(1, 3))
def test_the_scan_of_onnx_is_the_definition(length: int, batch: int) -> None:
    x, projected, routes, *rest = make_inputs(random_routes(3, length), batch=batch, width=5, size=3, rank=2)
    inputs = [x.double(), projected.double(), routes, *(v.double() for v in rest)]
    wanted = routed_scan(*seven(inputs), backend="reference")
    torch.testing.assert_close(routed_scan(*seven(inputs), backend="onnx"), wanted, rtol=1e-12, atol=1e-12)
    half = routed_scan(*seven([v if v is routes else v.half() for v in inputs]), backend="onnx")
    assert half.dtype == torch.float16
    assert (half - wanted).abs().max() <= 1e-2 * wanted.abs().max()


# -- the native form


@needs_library
@pytest.mark.parametrize("number", [2, 4, 8])
@pytest.mark.parametrize("method", SCAN_METHODS)
@pytest.mark.parametrize("instruction_set", native.instruction_sets())
def test_native_agrees_on_every_order(method: str, number: int, instruction_set: str) -> None:
    inputs = make_inputs(hybrid_routes(((method, number),), 8))
    found = outputs_and_gradients(inputs, function=native.routed_scan_native, instruction_set=instruction_set)
    assert_agree(found, defined(inputs))


@needs_library
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("scan", [(("hilbert", 4), ("zigzag", 4)), (("sweep", 2), ("scan", 2), ("zorder", 4))])
def test_native_agrees_on_hybrids(scan: tuple[tuple[str, int], ...], batch: int) -> None:
    inputs = make_inputs(hybrid_routes(scan, 8), batch=batch)
    assert_agree(outputs_and_gradients(inputs, backend="native"), defined(inputs))


@needs_library
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("length", [4, 31, 32, 33, 256, 1024, 4096])
def test_native_agrees_on_lengths(length: int, batch: int) -> None:
    inputs = make_inputs(random_routes(2, length), batch=batch, width=17 if length < 1024 else 4)
    assert_agree(outputs_and_gradients(inputs, backend="native"), defined(inputs))


@needs_library
@settings(max_examples=60)
@given(
    batch=st.integers(1, 4),
    routes=st.integers(1, 8),
    length=st.integers(1, 70),
    width=st.integers(1, 150),
    size=st.integers(1, 20),
    rank=st.integers(1, 9),
    threads=st.integers(1, 5),
    instruction_set=st.sampled_from(native.instruction_sets() or ["none"]),
    seed=st.integers(0, 2**31),
)
def test_native_agrees_on_any_size(
    batch: int,
    routes: int,
    length: int,
    width: int,
    size: int,
    rank: int,
    threads: int,
    instruction_set: str,
    seed: int,
) -> None:
    inputs = make_inputs(random_routes(routes, length, seed), batch, width, size, rank, seed)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = outputs_and_gradients(inputs, function=native.routed_scan_native, instruction_set=instruction_set)
    finally:
        torch.set_num_threads(before)
    assert_agree(found, defined(inputs), tolerance=2e-4)  # sums of few terms may cancel


@needs_library
@pytest.mark.parametrize("instruction_set", native.instruction_sets())
@pytest.mark.parametrize("bias", [-15.0, 0.0, 30.0])
def test_native_holds_for_tiny_and_huge_steps(bias: float, instruction_set: str) -> None:
    """Steps from 3e-7, whose decays are next to 1, to 30, whose decays underflow."""
    inputs = make_inputs(random_routes(2, 100))
    inputs[4] = torch.full_like(inputs[4], bias)
    found = outputs_and_gradients(inputs, function=native.routed_scan_native, instruction_set=instruction_set)
    assert_agree(found, defined(inputs))


@needs_library
@pytest.mark.parametrize("instruction_set", native.instruction_sets())
@pytest.mark.parametrize("bias", [-1e20, -torch.inf])
def test_step_sizes_of_zero_leave_the_skip_connection_alone(bias: float, instruction_set: str) -> None:
    inputs = make_inputs(random_routes(2, 100))
    inputs[4] = torch.full_like(inputs[4], bias)
    found = outputs_and_gradients(inputs, function=native.routed_scan_native, instruction_set=instruction_set)
    expected = defined(inputs)
    torch.testing.assert_close(found["y"].double(), expected["y"], rtol=1e-5, atol=1e-6)
    assert all(float((found[name] - value).abs().max()) < 1e-5 for name, value in expected.items())


@needs_library
@pytest.mark.parametrize("instruction_set", native.instruction_sets())
@pytest.mark.parametrize("rate", [1e-3, 1e-2, 0.1])
def test_slow_decays_do_not_drift(instruction_set: str, rate: float) -> None:
    """4096 equal decays near 1, each rounded to float32: the exponential may add little to those rounding errors."""
    inputs = make_inputs(random_routes(1, 4096), width=16, size=1, rank=1)
    inputs[1][..., 0], inputs[1][..., 1:] = 0, 1
    inputs[0], inputs[5] = torch.ones_like(inputs[0]), torch.full_like(inputs[5], -rate)
    inputs[4] = torch.full_like(inputs[4], math.log(math.expm1(0.1)))
    expected = defined(inputs)["y"]
    y = native.routed_scan_native(*seven(inputs), instruction_set=instruction_set)
    assert (y.double() - expected).abs().max() / expected.abs().max() <= 4096 * 2**-25


@needs_library
def test_same_input_same_bits_whatever_was_in_memory() -> None:
    inputs = make_inputs(random_routes(4, 50), batch=2, width=40, size=5, rank=3)
    first = outputs_and_gradients(inputs, backend="native")
    trash = [torch.full((200_000,), math.nan) for _ in range(20)]
    del trash
    for name, value in outputs_and_gradients(inputs, backend="native").items():
        assert torch.equal(value, first[name]), name


@needs_library
def test_native_without_torchs_openmp_uses_its_own_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = make_inputs(random_routes(4, 50), batch=3)
    expected = outputs_and_gradients(inputs, backend="native")
    monkeypatch.setattr(native, "_parallel", lambda: None)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        found = outputs_and_gradients(inputs, backend="native")
    finally:
        torch.set_num_threads(before)
    assert_agree(found, expected, tolerance=1e-6)


@needs_library
def test_nan_in_a_token_reaches_the_output() -> None:
    inputs = make_inputs(random_routes(2, 40))
    inputs[0][0, 7, 3] = math.nan
    y = routed_scan(*inputs, backend="native")
    assert y[0, :, 3].isnan().any()
    assert not y[0, :, 4].isnan().any()


@needs_library
def test_half_precision_comes_back_in_its_own_type() -> None:
    inputs = make_inputs(random_routes(2, 30))
    inputs[0], inputs[1] = inputs[0].bfloat16(), inputs[1].bfloat16()
    y = routed_scan(*inputs, backend="native")
    expected = routed_scan(*(v.float() if v.is_floating_point() else v for v in inputs), backend="native")
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, expected.bfloat16())


@needs_library
def test_states_are_kept_only_where_a_backward_may_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    forward = native._forward

    def watched(*arguments: Any) -> Any:
        kept.append(forward(*arguments))
        return kept[-1]

    monkeypatch.setattr(native, "_forward", watched)
    inputs = make_inputs(random_routes(2, 64))
    routed_scan(*inputs, backend="native")
    routed_scan(inputs[0].requires_grad_(), *inputs[1:], backend="native")
    with torch.no_grad():
        routed_scan(*inputs, backend="native")
    assert [states.numel() > 0 for _, states in kept] == [False, True, False]
    # a thirty-second of all states, padded: never an array of L * N
    assert kept[1][1].numel() == 2 * 2 * 16 * 32


@needs_library
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # inside opcheck
def test_operator_is_registered_as_torch_expects() -> None:
    """Schema, shapes without data, autograd: what torch.compile and torch.export rely on."""
    inputs = [v.requires_grad_() if v.is_floating_point() else v for v in make_inputs(random_routes(2, 20))]
    torch.library.opcheck(native._forward, (*inputs, 0, True))


@needs_library
def test_native_refuses_what_it_cannot_do() -> None:
    inputs = make_inputs(random_routes(2, 10))
    with pytest.raises(ValueError, match="float32, got x in float64; convert it or take another backend"):
        routed_scan(*(v.double() if v.is_floating_point() else v for v in inputs), backend="native")
    with pytest.raises(ValueError, match=r"instruction_set must be one of \['.*'\], got 'MMX'"):
        native.routed_scan_native(*seven(inputs), instruction_set="MMX")
    with pytest.raises(ValueError, match="runs on CPU tensors, got x on meta"):
        native.routed_scan_native(*seven([v.to("meta") for v in inputs]))


# -- which backend


def test_auto_takes_the_fused_form_and_float64_the_exact_one() -> None:
    inputs = make_inputs(random_routes(2, 40))
    picked = pick_backend("cpu")
    assert picked == ("chunked" if native.unavailable() else "native")
    assert pick_backend("cpu", torch.float64) == "chunked"
    assert pick_backend("mps") == "chunked"
    assert torch.equal(routed_scan(*inputs), routed_scan(*inputs, backend=picked))
    exact = [v.double() if v.is_floating_point() else v for v in inputs]
    assert torch.equal(routed_scan(*exact), routed_scan(*exact, backend="chunked"))
    assert describe(picked).startswith(picked)


def test_a_named_backend_never_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = make_inputs(random_routes(2, 10))
    monkeypatch.setattr(native, "_library", lambda: "the native backend was not built; install a compiler")
    assert pick_backend("cpu") == "chunked"
    assert torch.equal(routed_scan(*inputs), routed_scan(*inputs, backend="chunked"))
    with pytest.raises(RuntimeError, match="was not built; install a compiler"):
        routed_scan(*inputs, backend="native")
    if unavailable("mamba_ssm"):
        with pytest.raises(RuntimeError, match=r"needs (the package mamba_ssm|a CUDA device)"):
            routed_scan(*inputs, backend="mamba_ssm")
    with pytest.raises(ValueError, match=r"one of \[.*'native'.*\] or 'auto', got 'fused'"):
        routed_scan(*inputs, backend="fused")


def test_missing_library_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    native._library.cache_clear()
    monkeypatch.setattr(native.importlib.util, "find_spec", lambda name: None)
    try:
        assert "no C compiler" in str(native.unavailable())
        assert pick_backend("cpu") == "chunked"
    finally:
        monkeypatch.undo()
        native._library.cache_clear()


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, torch.zeros(2, 10), r"x must have shape \(B, L, D\)"),
        (1, torch.zeros(1, 10, 2, 30), r"projected must have shape .* = \(1, 10, 2, 36\)"),
        (2, torch.zeros(2, 9, dtype=torch.int64), r"routes must have shape .* = \(2, 10\)"),
        (2, torch.zeros(2, 10), "routes must be an int64 tensor"),
        (3, torch.zeros(2, 20), r"dt_proj must have shape \(K, D, R\)"),
        (4, torch.zeros(2, 19), r"dt_bias must have shape .* = \(2, 20\)"),
        (5, torch.zeros(2, 20), r"A must have shape \(K, D, N\)"),
        (6, torch.zeros(3, 20), r"D must have shape .* = \(2, 20\)"),
        (6, torch.zeros(2, 20, dtype=torch.int64), "D must be a floating point tensor"),
        (0, torch.zeros(1, 10, 20, dtype=torch.int64), "x must be a floating point tensor"),
        (4, torch.zeros(2, 20, device="meta"), "dt_bias is on meta, but x is on cpu"),
    ],
)
def test_wrong_arguments_are_named(position: int, value: Any, message: str) -> None:
    inputs = make_inputs(random_routes(2, 10))
    inputs[position] = value
    with pytest.raises(ValueError, match=message):
        package._check(*inputs)


def test_axis_names_are_checked_under_test() -> None:
    inputs = make_inputs(random_routes(2, 10))
    with pytest.raises(jaxtyping.TypeCheckError):
        routed_scan(*seven([*inputs[:6], torch.zeros(3, 20)]))


def test_backends_are_named_once() -> None:
    assert len(backends()) == len(set(backends()))
    assert {"reference", "chunked", "native", "triton", "mamba_ssm"} <= set(backends())


@needs_library
def test_compiled_function_keeps_the_fused_scan() -> None:
    """torch.compile takes the operator as a whole, gradients included: no break in the graph."""
    code = """
import json, torch
from test_routed_scan import make_inputs, random_routes, outputs_and_gradients
from mambaad.ops.routed_scan import routed_scan
inputs = make_inputs(random_routes(2, 33))
compiled = torch.compile(lambda *a: torch.tanh(routed_scan(*a, backend="native")), fullgraph=True, backend="aot_eager")
eager = outputs_and_gradients(inputs, function=lambda *a: torch.tanh(routed_scan(*a, backend="native")))
found = outputs_and_gradients(inputs, function=compiled)
print(json.dumps({name: float((found[name] - eager[name]).abs().max()) for name in eager}))
"""
    root = os.path.dirname(os.path.abspath(__file__))
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr[-2000:]
    assert all(error < 1e-6 for error in json.loads(done.stdout.splitlines()[-1]).values())

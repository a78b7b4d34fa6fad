"""Selective scan: the chunked form against the definition, and the definition against independent truths."""

import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mambaad.ops.selective_scan import BACKENDS as ALL_BACKENDS
from mambaad.ops.selective_scan import chunked, pick_backend, selective_scan, unavailable

BACKENDS = [name for name in ALL_BACKENDS if unavailable(name) is None]  # mamba_ssm: tests/test_mamba_ssm_backend.py
NAMES = ("u", "delta", "A", "B", "C", "D", "delta_bias")
# Largest error relative to the largest value of the array.  The backends add up in different orders and the chunked
# one takes exp2 of a rescaled exponent: some tens of roundings (6e-8 and 1.1e-16), more in sums over time.
TOLERANCE = {torch.float32: 5e-6, torch.float64: 1e-13}


def make_inputs(
    batch: int = 1,
    routes: int = 1,
    width: int = 4,
    length: int = 10,
    size: int = 4,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Arguments in the range of a trained model: A near -1 to -N, step sizes near 0.05 to 0.5."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    values = (
        normal(batch, routes, width, length),
        normal(batch, routes, width, length),
        -torch.arange(1, size + 1) * torch.exp(0.3 * normal(routes, width, size)),
        normal(batch, routes, size, length),
        normal(batch, routes, size, length),
        normal(routes, width),
        normal(routes, width) - 2,
    )
    return {name: value.to(dtype) for name, value in zip(NAMES, values, strict=True)}


def outputs_and_gradients(backend: str, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    leaves = {name: value.detach().requires_grad_() for name, value in inputs.items()}
    y = selective_scan(*leaves.values(), backend=backend)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(y.dtype)
    gradients = torch.autograd.grad((y * weight).sum(), list(leaves.values()))
    return {"y": y.detach(), **dict(zip(NAMES, gradients, strict=True))}


def assert_agree(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    for name, value in expected.items():
        assert found[name].shape == value.shape
        assert found[name].dtype == value.dtype
        error = (found[name] - value).abs().max()
        assert error <= tolerance * value.abs().max(), f"{name}: off by {error:.3g}"


@pytest.fixture
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 8 steps at any size, so that small inputs cross many boundaries."""
    monkeypatch.setattr(chunked, "CHUNK_ELEMENTS", 1)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 100, 257])
@pytest.mark.parametrize(("batch", "routes"), [(1, 1), (1, 8), (3, 2)])
@pytest.mark.usefixtures("short_chunks")
def test_chunked_is_the_reference(batch: int, routes: int, length: int, dtype: torch.dtype) -> None:
    inputs = make_inputs(batch, routes, 3, length, 4, dtype)
    expected = outputs_and_gradients("reference", inputs)
    assert_agree(outputs_and_gradients("chunked", inputs), expected, TOLERANCE[dtype])


@pytest.mark.parametrize("elements", [1, 100, 1000, 1 << 19])
def test_result_does_not_depend_on_the_chunks(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = make_inputs(3, 2, 5, 50, 4)
    expected = outputs_and_gradients("reference", inputs)
    monkeypatch.setattr(chunked, "CHUNK_ELEMENTS", elements)
    assert_agree(outputs_and_gradients("chunked", inputs), expected, TOLERANCE[torch.float64])


@given(st.integers(1, 5000), st.integers(1, 64), st.integers(1, 1 << 20))
def test_chunks_and_blocks_cover_everything_evenly(length: int, batch: int, state: int) -> None:
    T = chunked.chunk_length(length, state)
    chunks = torch.empty(length).split(T)
    assert min(length, chunked.MIN_CHUNK) // 2 < T <= length  # never many tiny chunks
    assert T - len(chunks[-1]) < len(chunks)
    rows = chunked.rows_per_block(torch.Size((batch, 1, 1, length)), state)
    assert 1 <= rows <= batch
    assert rows == 1 or rows * state * min(length, chunked.MIN_CHUNK) <= 2 * chunked.CHUNK_ELEMENTS


@pytest.mark.usefixtures("short_chunks")
def test_gradients_are_those_of_finite_differences() -> None:
    inputs = tuple(x.requires_grad_() for x in make_inputs(1, 2, 2, 17, 2).values())
    assert torch.autograd.gradcheck(lambda *x: selective_scan(*x, backend="chunked"), inputs)


@pytest.mark.usefixtures("short_chunks")
def test_memory_layout_does_not_matter() -> None:
    inputs = make_inputs(2, 2, 3, 20, 4)
    channels_last = {n: x.mT.contiguous().mT if x.dim() == 4 else x for n, x in inputs.items()}
    strided = {n: torch.stack((x, x), dim=-1)[..., 0] for n, x in inputs.items()}
    expanded = {**inputs, "delta": inputs["delta"][:1].expand(2, -1, -1, -1), "D": inputs["D"][:1].expand(2, -1)}
    for variant in (channels_last, strided, expanded):
        dense = {n: x.contiguous() for n, x in variant.items()}
        expected = outputs_and_gradients("reference", dense)
        assert_agree(outputs_and_gradients("chunked", variant), expected, TOLERANCE[torch.float64])


@pytest.mark.parametrize("name", NAMES)
def test_gradient_of_one_argument_alone(name: str) -> None:
    inputs = make_inputs(2, 2, 3, 20, 4)
    expected = outputs_and_gradients("chunked", inputs)[name]
    inputs[name].requires_grad_()
    y = selective_scan(*inputs.values())
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (y * weight).sum().backward()
    gradient = inputs[name].grad
    assert gradient is not None
    assert torch.equal(gradient, expected)
    assert all(x.grad is None for n, x in inputs.items() if n != name)


def test_every_output_is_initialised() -> None:
    """torch fills fresh memory with NaN in this mode."""
    inputs = make_inputs(3, 2, 5, 50, 4)
    expected = outputs_and_gradients("reference", inputs)
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(1).isnan()
        first, second = (outputs_and_gradients("chunked", inputs) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert_agree(first, expected, TOLERANCE[torch.float64])
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("backend", BACKENDS)
def test_constant_parameters_make_a_convolution(backend: str) -> None:
    """y = (C exp(δA)^k δB) * u + D u, with the kernel and the convolution written in numpy."""
    length = 40
    inputs = make_inputs(1, 2, 3, length, 4)
    for name in ("delta", "B", "C"):
        inputs[name] = inputs[name][..., :1].expand(-1, -1, -1, length)
    y = selective_scan(*inputs.values(), backend=backend)[0].numpy()
    u, delta, B, C = (inputs[name][0].numpy() for name in ("u", "delta", "B", "C"))
    A, D, bias = (inputs[name].numpy() for name in ("A", "D", "delta_bias"))
    for k, d in np.ndindex(2, 3):
        step = np.log1p(np.exp(delta[k, d, 0] + bias[k, d]))
        powers = np.exp(step * A[k, d])[:, None] ** np.arange(length)  # (N, L)
        kernel = (C[k, :, 0] * step * B[k, :, 0]) @ powers
        expected = np.convolve(kernel, u[k, d])[:length] + D[k, d] * u[k, d]
        np.testing.assert_allclose(y[k, d], expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_step_by_hand(backend: str) -> None:
    """δ = softplus(0) = ln 2, A = -1: the state halves at each step."""
    u = torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64).view(1, 1, 1, 3)
    one = torch.ones_like(u)
    zero, scalar = 0 * one, torch.ones(1, 1, dtype=torch.float64)
    y = selective_scan(u, zero, -scalar[..., None], one, 3 * one, 5 * scalar, 0 * scalar, backend=backend)
    h = np.log(2) * np.array([1, 0.5, 2.25])
    np.testing.assert_allclose(y.flatten(), 3 * h + 5 * u.flatten().numpy(), rtol=1e-14)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(deadline=None, max_examples=20)
@given(a=st.floats(-3, 3), b=st.floats(-3, 3), seed=st.integers(0, 99))
def test_linear_in_u(backend: str, a: float, b: float, seed: int) -> None:
    inputs = make_inputs(2, 2, 3, 20, 4, seed=seed)
    other = torch.randn_like(inputs["u"])
    mixed = selective_scan(**{**inputs, "u": a * inputs["u"] + b * other}, backend=backend)
    parts = a * selective_scan(*inputs.values(), backend=backend) + b * selective_scan(
        **{**inputs, "u": other}, backend=backend
    )
    torch.testing.assert_close(mixed, parts, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(deadline=None, max_examples=20)
@given(data=st.data(), length=st.integers(2, 40))
def test_causal(backend: str, data: st.DataObject, length: int) -> None:
    """What comes at step t changes nothing before t, and does change step t."""
    t = data.draw(st.integers(0, length - 1))
    inputs = make_inputs(2, 2, 3, length, 4)
    changed = {n: torch.cat((x[..., :t], x[..., t:] + 0.5), -1) if x.dim() == 4 else x for n, x in inputs.items()}
    y, z = (selective_scan(**x, backend=backend) for x in (inputs, changed))
    assert torch.equal(y[..., :t], z[..., :t])
    assert (y[..., t] != z[..., t]).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_in_nothing_out(backend: str) -> None:
    inputs = make_inputs(2, 2, 3, 20, 4)
    assert not selective_scan(**{**inputs, "u": 0 * inputs["u"]}, backend=backend).any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_extreme_decay_stays_finite(backend: str) -> None:
    """exp(δA) underflows to 0 for large steps and is 1 for tiny ones; neither may become inf or NaN anywhere."""
    inputs = make_inputs(1, 2, 3, 60, 4, torch.float32)
    inputs["delta"] = inputs["delta"] * 100
    assert all(x.isfinite().all() for x in outputs_and_gradients(backend, inputs).values())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(backend: str, dtype: torch.dtype) -> None:
    inputs = {n: x.to(dtype) for n, x in make_inputs(2, 2, 3, 100, 4).items()}
    expected = outputs_and_gradients(backend, {n: x.float() for n, x in inputs.items()})
    found = outputs_and_gradients(backend, inputs)
    assert all(x.dtype == dtype for x in found.values())
    torch.testing.assert_close(found["y"], expected["y"].to(dtype), rtol=0, atol=0)


def saved_elements(length: int) -> tuple[int, int]:
    """Elements kept for the backward: of the largest tensor, and of all of them together (K 2, D 8, N 16)."""
    inputs = {n: x.requires_grad_() for n, x in make_inputs(1, 2, 8, length, 16).items()}
    y = selective_scan(*inputs.values(), backend="chunked")
    made_by: Any = y.grad_fn
    sizes = [x.numel() for x in made_by.next_functions[0][0].saved_tensors]
    return max(sizes), sum(sizes)


@pytest.mark.usefixtures("short_chunks")
def test_memory_for_the_backward() -> None:
    """No array of L states is kept: at most their eighth, and (B, K, D, L) or (B, K, N, L) arrays."""
    inner, states = 2 * 8, 2 * 8 * 16
    for length in (64, 256):
        largest, total = saved_elements(length)
        assert largest <= states * length / chunked.MIN_CHUNK
        assert total <= states * length / chunked.MIN_CHUNK + 3 * inner * length + 2 * (2 * 16) * length + 2 * states
    growth = [b[1] - a[1] for a, b in pairwise(saved_elements(n) for n in (64, 128, 192))]
    assert growth[0] == growth[1]  # linear in L


def test_second_derivative_is_refused() -> None:
    """A gradient of a gradient would come out wrong, without a word, if autograd saw through the backward."""
    inputs = make_inputs(length=5)
    inputs["u"].requires_grad_()
    (gradient,) = torch.autograd.grad(selective_scan(*inputs.values()).square().sum(), inputs["u"], create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()


@pytest.fixture
def no_type_checks() -> Iterator[None]:
    """The checks of the axis names, on under test only, would come before the function's own errors."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("u", (2, 3, 10), r"u must have shape \(B, K, D, L\) .*got \(2, 3, 10\)"),
        ("u", (2, 2, 3, 0), r"u must have .* no axis empty, got \(2, 2, 3, 0\)"),
        ("delta", (2, 2, 3, 9), r"delta must have shape \(B, K, D, L\) = \(2, 2, 3, 10\) .*got \(2, 2, 3, 9\)"),
        ("A", (2, 3), r"A must have shape \(K, D, N\) .*got \(2, 3\)"),
        ("A", (2, 4, 3), r"A must have shape \(K, D, N\) = \(2, 3, 3\) .*got \(2, 4, 3\)"),
        ("B", (2, 2, 5, 10), r"B must have shape \(B, K, N, L\) = \(2, 2, 4, 10\) .*got \(2, 2, 5, 10\)"),
        ("C", (1, 2, 4, 10), r"C must have shape \(B, K, N, L\) = \(2, 2, 4, 10\) .*got \(1, 2, 4, 10\)"),
        ("D", (3,), r"D must have shape \(K, D\) = \(2, 3\) .*got \(3,\)"),
        ("delta_bias", (2, 1), r"delta_bias must have shape \(K, D\) = \(2, 3\) .*got \(2, 1\)"),
    ],
)
@pytest.mark.usefixtures("no_type_checks")
def test_wrong_shape_names_the_argument(name: str, shape: tuple[int, ...], message: str) -> None:
    inputs = {**make_inputs(2, 2, 3, 10, 4), name: torch.zeros(shape, dtype=torch.float64)}
    with pytest.raises(ValueError, match=message):
        selective_scan(*inputs.values())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("no_type_checks")
def test_integers_and_other_devices_are_refused(name: str) -> None:
    inputs = make_inputs()
    with pytest.raises(ValueError, match=rf"{name} must be a floating point tensor, got torch.int64"):
        selective_scan(*{**inputs, name: inputs[name].long()}.values())
    if name != "u":
        with pytest.raises(ValueError, match=rf"{name} is on meta, but u is on cpu"):
            selective_scan(*{**inputs, name: inputs[name].to("meta")}.values())


def test_unknown_backend_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"one of \['chunked', .*'reference'\] or 'auto', got 'fused'"):
        selective_scan(*make_inputs().values(), backend="fused")


def test_auto_is_the_picked_backend() -> None:
    inputs = make_inputs(2, 2, 3, 10, 4)
    picked = pick_backend("cpu")
    assert picked in BACKENDS
    assert torch.equal(selective_scan(*inputs.values()), selective_scan(*inputs.values(), backend=picked))


def test_axis_names_are_checked_under_test() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        selective_scan(*{**make_inputs(), "u": torch.zeros(1, 1, 4, 9)}.values())


def test_import_neither_warns_nor_compiles() -> None:
    """The folder by itself, without the package around it (which needs timm, and timm much of torch)."""
    code = """
import sys, types
package = types.ModuleType("mambaad")
package.__path__ = sys.argv[1:]
sys.modules["mambaad"] = package
import mambaad.ops.selective_scan
loaded = {"torch._dynamo", "torch.utils.cpp_extension", "triton", "numba"} & set(sys.modules)
assert not loaded, loaded
"""
    folder = Path(chunked.__file__).parents[2]
    subprocess.run([sys.executable, "-W", "error", "-c", code, str(folder)], check=True)

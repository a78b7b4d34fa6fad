"""Routed scan in Triton against the definition: in Triton's interpreter everywhere, and on a GPU where there is one.

The interpreter is chosen when the kernels are decorated, so its cases run in one process of their own: this file, run
as a script, computes them and prints what it found as JSON.
"""

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("x", "projected", "routes", "dt_proj", "dt_bias", "A", "D")
# Largest error relative to the largest value of the array, against float64: tens of roundings of float32 (6e-8).
TOLERANCE = 5e-6
TOLERANCE_GPU = 2e-5  # sums over 4096 steps, approximate exponentials
# Half a unit in the last place, of outputs and gradients that are returned in this dtype; 1% for the sums before it.
ROUNDING = {torch.float32: 0.0, torch.bfloat16: 2**-8 * 1.01, torch.float16: 2**-11 * 1.01}
CASES = {  # B, K, L, D, N, R
    "smallest": (1, 2, 4, 3, 1, 1),
    "one token": (1, 2, 1, 2, 1, 1),
    "three segments": (1, 2, 19, 3, 2, 2),
    "one segment": (1, 2, 19, 3, 2, 2),
    "batch, blocks of channels": (3, 2, 6, 5, 1, 1),
    "four routes": (1, 4, 5, 4, 3, 4),
    "eight routes": (1, 8, 4, 2, 1, 5),
    "sixteen states": (1, 1, 5, 3, 16, 4),
    "small steps": (1, 2, 4, 3, 2, 1),
    "large steps": (1, 2, 4, 3, 2, 1),
    "bfloat16": (1, 2, 9, 3, 2, 2),
    "float16": (1, 2, 9, 3, 2, 2),
    "strided": (2, 2, 4, 3, 1, 1),
}
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs the package triton")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device (sm_80 or newer)")


def make_inputs(
    B: int,
    K: int,
    L: int,
    D: int,
    N: int,
    R: int,
    *,
    dtype: torch.dtype = torch.float32,
    bias: float = -2.0,
    device: str = "cpu",
) -> dict[str, Tensor]:
    """Arguments in the range of a trained model; each route visits the tokens in a random order of its own."""
    generator = torch.Generator().manual_seed(B + K + L + D + N + R)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    values = {
        "x": normal(B, L, D).to(dtype),
        "projected": normal(B, L, K, R + 2 * N).to(dtype),
        "routes": torch.stack([torch.randperm(L, generator=generator) for _ in range(K)]),
        "dt_proj": normal(K, D, R) * R**-0.5,
        "dt_bias": normal(K, D) + bias,
        "A": -torch.arange(1, N + 1) * torch.exp(0.3 * normal(K, D, N)),
        "D": normal(K, D),
    }
    return {name: value.to(device) for name, value in values.items()}


def definition(
    x: Tensor,
    projected: Tensor,
    routes: Tensor,
    dt_proj: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    backend: str = "reference",
) -> Tensor:
    """Gather into route order, scan, scatter back, add up."""
    from mambaad.ops.selective_scan import selective_scan

    def routed(values: Tensor) -> Tensor:  # (B, L, K, C) -> (B, K, C, L)
        return torch.stack([values[:, order, k] for k, order in enumerate(routes)], dim=1).mT

    dt, B, C = map(routed, projected.split((dt_proj.shape[-1], A.shape[-1], A.shape[-1]), dim=-1))
    u = routed(x[:, :, None].expand(-1, -1, len(routes), -1))
    y = selective_scan(u, torch.einsum("kdr,bkrl->bkdl", dt_proj, dt), A, B, C, D, dt_bias, backend=backend)
    return torch.stack([y[:, k].mT[:, order.argsort()] for k, order in enumerate(routes)]).sum(0)


def outputs_and_gradients(function: Callable[..., Any], inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    leaves = {n: v.detach().requires_grad_() if v.is_floating_point() else v for n, v in inputs.items()}
    y = function(**leaves)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).bfloat16().to(y)  # exact in any dtype
    wanted = [n for n in NAMES if n != "routes"]
    gradients = torch.autograd.grad(y, [leaves[n] for n in wanted], weight)
    return {"y": y.detach(), **dict(zip(wanted, gradients, strict=True))}


def errors(
    found: dict[str, Tensor], expected: dict[str, Tensor], dtype: torch.dtype = torch.float32
) -> dict[str, float]:
    """Of each array the largest error relative to its largest value, less the rounding of its values to `dtype`."""
    result = {}
    for name, truth in expected.items():
        value = found[name]
        assert value.shape == truth.shape, f"{name}: {value.shape}"
        assert value.dtype == (dtype if name in ("y", "x", "projected") else torch.float32), f"{name}: {value.dtype}"
        error = (value.double() - truth).abs() - truth.abs() * ROUNDING[value.dtype]
        largest = truth.abs().max() if truth.any() else 1.0
        result[name] = float(error.max() / largest)  # NaN if one is
    return result


def in_float64(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: v.double() if v.is_floating_point() else v for n, v in inputs.items()}


def interpreted_case(name: str) -> dict[str, float]:
    from mambaad.ops.routed_scan import triton as triton_scan

    dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(name, torch.float32)
    triton_scan.PROGRAMS = 1 if name == "one segment" else 1024
    inputs = make_inputs(*CASES[name], dtype=dtype, bias={"small steps": -12.0, "large steps": 10.0}.get(name, -2.0))
    if name == "strided":
        inputs = {n: torch.stack((v, v), dim=-1)[..., 0] for n, v in inputs.items()}
        inputs["x"] = inputs["x"].mT.contiguous().mT
    expected = outputs_and_gradients(definition, in_float64(inputs))
    return errors(outputs_and_gradients(triton_scan.routed_scan_triton, inputs), expected, dtype)


def interpreted_facts() -> dict[str, bool]:
    from mambaad.ops.routed_scan import triton as triton_scan

    inputs = make_inputs(1, 2, 9, 2, 1, 1)
    first, second = (outputs_and_gradients(triton_scan.routed_scan_triton, inputs) for _ in range(2))
    leaves = {**inputs, "x": inputs["x"].clone().requires_grad_()}
    with torch.no_grad():
        without = triton_scan.routed_scan_triton(**leaves)
    y = triton_scan.routed_scan_triton(**leaves)
    (gradient,) = torch.autograd.grad(y.square().sum(), leaves["x"], create_graph=True)
    try:
        gradient.sum().backward()
        refused = False
    except RuntimeError as error:
        refused = "differentiate twice" in str(error)
    return {
        "available": triton_scan.unavailable() is None,
        "same bits twice": all(torch.equal(first[n], second[n]) for n in first),
        "same bits without gradient": torch.equal(without, first["y"]) and not without.requires_grad,
        "second derivative is refused": refused,
    }


def main() -> None:
    """Print the results of all cases.  Tiles and blocks are small, so that tiny inputs cross many boundaries."""
    from jaxtyping import install_import_hook

    install_import_hook(["mambaad.ops"], "beartype.beartype")
    from mambaad.ops.routed_scan import triton as triton_scan

    torch.use_deterministic_algorithms(True)  # fills fresh memory with NaN
    triton_scan.STEPS, triton_scan.TILES, triton_scan.MIN_BLOCK, triton_scan.MAX_BLOCK = 4, 2, 2, 4
    found = {"facts": interpreted_facts(), "cases": {name: interpreted_case(name) for name in CASES}}
    print(json.dumps(found))


def triton_version() -> tuple[int, ...]:
    return tuple(int(part) for part in importlib.metadata.version("triton").split(".")[:2])


@pytest.fixture(scope="module")
def interpreted() -> dict[str, dict[str, Any]]:
    if triton_version() < (3, 6):
        pytest.skip("the interpreters of old Tritons have errors of their own (3.2 adds int32 up as int64)")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, check=False)
    if "only 0-dimensional arrays can be converted to Python scalars" in done.stderr:
        pytest.skip("this Triton's interpreter does not go with this NumPy (Triton 3.6 needs NumPy older than 2.4)")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@needs_triton
@pytest.mark.parametrize("name", CASES)
def test_interpreted_kernels_are_the_definition(interpreted: dict[str, dict[str, Any]], name: str) -> None:
    assert set(interpreted["cases"][name]) == {"y", *NAMES} - {"routes"}
    for array, error in interpreted["cases"][name].items():
        assert error <= TOLERANCE, f"{array}: off by {error:.3g}"


@needs_triton
@pytest.mark.parametrize(
    "fact", ["available", "same bits twice", "same bits without gradient", "second derivative is refused"]
)
def test_interpreted_kernels(interpreted: dict[str, dict[str, Any]], fact: str) -> None:
    assert interpreted["facts"][fact]


@needs_triton
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter is on, which replaces compiling")
@pytest.mark.parametrize(
    ("kernel", "flags"),
    [
        ("scan_kernel", {"OUTPUT": True, "SAVE": True}),
        ("scan_kernel", {"OUTPUT": False, "SAVE": False}),
        ("carry_kernel", {"REVERSE": True}),
        ("adjoint_kernel", {"GRADIENTS": True}),
        ("adjoint_kernel", {"GRADIENTS": False}),
    ],
)
def test_kernels_compile_for_a_gpu(
    kernel: str, flags: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To sm_80 machine code, which needs no GPU; the interpreter accepts more than the compiler.

    Time stays within threads: no shuffle but in sums over channels, no layout conversion in what has none.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from mambaad.ops.routed_scan import triton as triton_scan
    from mambaad.ops.routed_scan import triton_kernels

    if triton_version() < (3, 3):
        pytest.skip("signatures were described in another way before Triton 3.3")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    function = getattr(triton_kernels, kernel)
    fixed = {"BD": triton_scan.MAX_BLOCK, "T": triton_scan.STEPS, "TILES": triton_scan.TILES, **flags}
    fixed = {n: v for n, v in fixed.items() if n in function.arg_names}
    types = dict.fromkeys(function.arg_names, "*fp32") | dict.fromkeys(("x", "projected", "dy"), "*bf16")
    types |= dict.fromkeys(triton_kernels.SIZES, "i32") | dict.fromkeys(fixed, "constexpr") | {"table": "*i64"}
    source = ASTSource(function, {n: types[n] for n in function.arg_names}, fixed)
    compiled = triton.compile(source, target=GPUTarget("cuda", 80, 32), options=triton_scan.OPTIONS)
    assert compiled.asm["cubin"]
    if not flags.get("GRADIENTS"):
        assert "shfl" not in compiled.asm["ptx"]
        assert "convert_layout" not in compiled.asm["ttgir"]


@given(st.integers(1, 64), st.sampled_from([2, 4, 8]), st.integers(1, 65536), st.integers(1, 2048))
def test_plan_covers_everything(batch: int, routes: int, length: int, width: int) -> None:
    from mambaad.ops.routed_scan import triton as module

    plan = module.make_plan(batch, routes, length, width)
    assert plan.BD.bit_count() == 1
    assert plan.BD * (plan.blocks - 1) < width <= plan.BD * plan.blocks
    steps = module.STEPS * module.TILES
    assert steps * (plan.stretches - 1) < length <= steps * plan.stretches
    assert plan.stretches_per_segment * (plan.segments - 1) < plan.stretches
    assert plan.stretches <= plan.stretches_per_segment * plan.segments
    without = batch * routes * plan.blocks  # programs, were there no segments
    assert plan.segments == 1 or without < module.PROGRAMS
    assert plan.stretches_per_segment == 1 or without * plan.segments * 2 > module.PROGRAMS  # rounding halves at most


def test_wrong_dtype_and_device_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from mambaad.ops.routed_scan.triton import routed_scan_triton

    inputs = make_inputs(1, 2, 4, 3, 1, 1)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match=r"CUDA tensors, got x on cpu"):
        routed_scan_triton(**inputs)
    for name in ("x", "projected"):
        with pytest.raises(ValueError, match=f"{name} must be float32, bfloat16 or float16 .* got torch.float64"):
            routed_scan_triton(**{**inputs, name: inputs[name].double()})


@pytest.mark.parametrize(
    ("installed", "cuda", "capability", "reason"),
    [
        (False, True, (9, 0), "pip install triton"),
        (True, False, (9, 0), "needs a CUDA device"),
        (True, True, (7, 5), "this device has 7.5"),
        (True, True, (8, 0), None),
        (True, True, (10, 0), None),
    ],
)
def test_unavailable_says_why(
    monkeypatch: pytest.MonkeyPatch, installed: bool, cuda: bool, capability: tuple[int, ...], reason: str | None
) -> None:
    from mambaad.ops.routed_scan.triton import unavailable

    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if installed else None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    found = unavailable()
    assert found is None if reason is None else reason in (found or "")


@needs_gpu
@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize(
    "sizes",
    [(2, 8, 4096, 128, 16, 4), (1, 8, 1024, 256, 16, 8), (2, 8, 64, 1024, 16, 32), (3, 2, 100, 50, 3, 5)],
)
def test_gpu_is_the_definition(sizes: tuple[int, ...], dtype: torch.dtype) -> None:
    from mambaad.ops.routed_scan.triton import routed_scan_triton

    inputs = make_inputs(*sizes, dtype=dtype, device="cuda")
    expected = outputs_and_gradients(lambda **x: definition(**x, backend="chunked"), in_float64(inputs))
    first, second = (outputs_and_gradients(routed_scan_triton, inputs) for _ in range(2))
    for name, error in errors(first, expected, dtype).items():
        assert error <= TOLERANCE_GPU, f"{name}: off by {error:.3g}"
        assert torch.equal(first[name], second[name]), f"{name}: other bits the second time"


if __name__ == "__main__":
    main()

"""The mamba_ssm backend against the definition, with a stand-in for the package that computes in its own layout."""

import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mambaad.ops.selective_scan import selective_scan
from mambaad.ops.selective_scan.mamba import selective_scan_mamba, unavailable

NAMES = ("u", "delta", "A", "B", "C", "D", "delta_bias")


def selective_scan_fn(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """What mamba_ssm documents of its function, one (row, channel) at a time: u (B, M, L), B and C (B, G, N, L)."""
    assert z is None
    assert delta_softplus
    assert D is not None
    assert delta_bias is not None
    assert all(x.dtype == torch.float32 for x in (u, delta, A, B, C, D, delta_bias))
    assert all(x.stride(-1) == 1 or x.shape[-1] == 1 for x in (u, delta, B, C))
    (batch, channels, length), groups = u.shape, B.shape[1]
    rows = []
    for b in range(batch):
        for m in range(channels):
            group = m // (channels // groups)
            h, y = torch.zeros(A.shape[1]), []
            for t in range(length):
                step = F.softplus(delta[b, m, t] + delta_bias[m])
                h = torch.exp(step * A[m]) * h + step * u[b, m, t] * B[b, group, :, t]
                y.append(C[b, group, :, t] @ h + D[m] * u[b, m, t])
            rows.append(torch.stack(y))
    return torch.stack(rows).view(batch, channels, length)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.selective_scan_interface")
    for name in names:
        module = ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(sys.modules[names[-1]], "selective_scan_fn", selective_scan_fn, raising=False)


def make_inputs(batch: int = 2, routes: int = 3, width: int = 2, length: int = 5, size: int = 4) -> dict[str, Tensor]:
    shape, group = (batch, routes, width, length), (batch, routes, size, length)
    A = -torch.exp(torch.randn(routes, width, size))
    normal = torch.randn
    values = (normal(shape), normal(shape), A, normal(group), normal(group), normal(routes, width))
    return dict(zip(NAMES, (*values, normal(routes, width)), strict=True))


def outputs_and_gradients(function: Callable[..., Any], inputs: dict[str, Tensor]) -> list[Tensor]:
    leaves = [x.detach().requires_grad_() for x in inputs.values()]
    y = function(*leaves)
    weight = torch.linspace(-1, 1, y.numel()).view(y.shape)
    return [y.detach(), *torch.autograd.grad((y * weight).sum(), leaves)]


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("routes", [1, 3])
@pytest.mark.parametrize("channels_last", [False, True])
def test_backend_is_the_definition(channels_last: bool, routes: int) -> None:
    inputs = make_inputs(routes=routes)
    if channels_last:  # as the model passes them
        inputs = {n: x.mT.contiguous().mT if x.dim() == 4 else x for n, x in inputs.items()}
    found = outputs_and_gradients(selective_scan_mamba, inputs)
    expected = outputs_and_gradients(lambda *x: selective_scan(*x, backend="reference"), inputs)
    for value, truth in zip(found, expected, strict=True):
        torch.testing.assert_close(value, truth, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("stand_in")
def test_half_precision_is_computed_in_float32() -> None:
    inputs = {n: x.bfloat16() for n, x in make_inputs().items()}
    y = selective_scan_mamba(**inputs)
    assert y.dtype == torch.bfloat16
    expected = selective_scan_mamba(**{n: x.float() for n, x in inputs.items()})
    assert torch.equal(y, expected.bfloat16())


@pytest.mark.usefixtures("stand_in")
def test_float64_is_refused() -> None:
    with pytest.raises(ValueError, match="float32, got u in float64"):
        selective_scan_mamba(**{n: x.double() for n, x in make_inputs().items()})


def test_missing_package_is_named_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install mamba-ssm" in (unavailable() or "")


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(("cuda", "reason"), [(False, "needs a CUDA device"), (True, None)])
def test_device_is_asked_for(monkeypatch: pytest.MonkeyPatch, cuda: bool, reason: str | None) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    found = unavailable()
    assert found is None if reason is None else reason in (found or "")

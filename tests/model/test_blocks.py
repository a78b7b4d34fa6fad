"""HSS, LSS, Half-FPN: initial values, drop path, what a module sums up."""

import math
from typing import Any

import pytest
import torch
from small_model import small
from torch.nn import functional as F

from mambaad.model import HSSBlock, LSSModule
from mambaad.model.half_fpn import Bottleneck, HalfFPN
from mambaad.model.lss import local_branch


def test_initial_values_are_the_published_ones() -> None:
    block = HSSBlock(32, (("hilbert", 8),))
    ss2d = block.ss2d
    assert torch.allclose(ss2d.A_log, torch.arange(1.0, 17).log().expand(8, 64, 16))
    assert torch.equal(ss2d.D, torch.ones(8, 64))
    dt = F.softplus(ss2d.dt_bias)
    assert dt.min() >= 1e-3 * 0.99
    assert dt.max() <= 1e-1 * 1.01
    assert ss2d.dt_proj.shape == (8, 64, 2)
    assert ss2d.dt_proj.abs().max() <= 2**-0.5
    model: Any = small()
    linear = model.decoder.stages[0][0].hss[0].ss2d.in_proj.weight
    assert linear.std().item() == pytest.approx(0.02, rel=0.1)
    conv = model.decoder.stages[0][0].local[1][1][0].weight  # depthwise 7 x 7
    assert conv.std().item() == pytest.approx(math.sqrt(2 / 49), rel=0.15)
    fusion = model.half_fpn.down_8[0].weight
    assert fusion.std().item() == pytest.approx(math.sqrt(2 / (9 * fusion.shape[0])), rel=0.15)


def test_drop_path_rates_fall_and_are_shared_within_a_module() -> None:
    model: Any = small(depths=(3, 4, 6, 3))
    rates = [[[b.drop_path.drop_prob for b in lss.hss] for lss in stage] for stage in model.decoder.stages]
    every = [0.2 * (1 - i / 15) for i in range(16)]
    firsts = [0, 3, 7, 13]
    for stage, first in zip(rates, firsts, strict=True):
        for i, module in enumerate(stage):
            assert module == pytest.approx([every[first + i]] * len(module))


def test_lss_module_is_the_published_sum() -> None:
    module: Any = LSSModule(8, 2, (("scan", 2),), local_kernels=(5, 7)).eval()
    x = torch.randn(2, 4, 4, 8)
    image = x.permute(0, 3, 1, 2)
    y = x
    for block in module.hss:
        y = block(y)
    merged = module.merge(torch.cat([y.permute(0, 3, 1, 2), module.local[0](image), module.local[1](image)], 1))
    assert torch.allclose(module(x), merged.permute(0, 2, 3, 1) + x, atol=1e-6)
    assert module.local[0][1][0].kernel_size == (5, 5)


def test_local_branch_kinds() -> None:
    full: Any = local_branch(4, 5, "dwconv_1x1")
    alone: Any = local_branch(4, 5, "dwconv")
    assert [layer[0].kernel_size for layer in full] == [(1, 1), (5, 5), (1, 1)]
    assert [layer[0].kernel_size for layer in alone] == [(5, 5)]
    assert full[1][0].bias is None
    assert full[0][0].bias is not None


def test_local_branch_equals_torchs_own_layers_and_stays_channels_last() -> None:
    branch: Any = local_branch(6, 5, "dwconv_1x1").double()
    x = (torch.randn(2, 8, 8, 6, dtype=torch.double) + 3).permute(0, 3, 1, 2).requires_grad_()
    expected = x
    for conv, norm, _ in branch:
        same_size = F.conv2d(expected, conv.weight, conv.bias, padding=conv.padding, groups=conv.groups)
        expected = F.silu(F.instance_norm(same_size, eps=norm.eps))
    ours = branch(x)
    torch.testing.assert_close(ours, expected)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    tensors = [x, *branch.parameters()]
    weights = torch.randn_like(ours)
    for got, wanted in zip(
        torch.autograd.grad(ours, tensors, weights), torch.autograd.grad(expected, tensors, weights), strict=True
    ):
        torch.testing.assert_close(got, wanted)


def test_fusion_halves_the_side_and_doubles_the_width() -> None:
    fusion = HalfFPN((4, 8, 16)).eval()
    features = [torch.randn(1, c, s, s) for c, s in ((4, 16), (8, 8), (16, 4))]
    assert fusion(features).shape == (1, 32, 2, 2)
    assert isinstance(fusion.bottlenecks[1], Bottleneck)
    with pytest.raises(ValueError, match="even number of channels"):
        HalfFPN((4, 8, 15))

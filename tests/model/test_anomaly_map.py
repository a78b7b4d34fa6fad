"""Anomaly map, its filter, and the loss."""

import numpy as np
import pytest
import scipy.ndimage
import torch

from mambaad.model import reconstruction_loss
from mambaad.model.anomaly_map import anomaly_map, gaussian_filter


@pytest.mark.parametrize("side", [8, 40, 64])
def test_gaussian_filter_is_scipys(side: int) -> None:
    maps = torch.rand(3, side, side)
    wanted = np.stack([scipy.ndimage.gaussian_filter(m, sigma=4) for m in maps.numpy()])
    assert np.abs(gaussian_filter(maps).numpy() - wanted).max() < 1e-6


def test_gaussian_filter_in_an_exported_graph_is_the_same() -> None:
    class Filter(torch.nn.Module):
        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            return gaussian_filter(maps)

    maps = torch.rand(3, 40, 40)
    graph = torch.export.export(Filter(), (maps,), strict=False)
    assert not any("unfold" in str(node.target) and len(node.meta["val"].shape) > 2 for node in graph.graph.nodes)
    torch.testing.assert_close(graph.module()(maps), gaussian_filter(maps), rtol=0, atol=1e-6)


def test_anomaly_map_is_zero_for_perfect_reconstruction_and_marks_the_wrong_place() -> None:
    features = [torch.rand(1, c, s, s) + 0.1 for c, s in ((8, 16), (16, 8), (32, 4))]
    assert anomaly_map(features, features, 64).abs().max() < 1e-6
    wrong = [f.clone() for f in features]
    wrong[0][0, :, 4, 12] *= torch.linspace(-1, 1, 8)
    hit = anomaly_map(features, wrong, 64)[0].argmax().item()
    assert abs(hit // 64 - 4 * 63 / 15) <= 2
    assert abs(hit % 64 - 12 * 63 / 15) <= 2


def test_loss_is_five_times_the_sum_of_mean_squared_errors() -> None:
    a = [torch.randn(2, 3, 4, 4) for _ in range(3)]
    b = [torch.randn(2, 3, 4, 4) for _ in range(3)]
    wanted = 5 * torch.stack([((x - y) ** 2).mean() for x, y in zip(a, b, strict=True)]).sum()
    assert torch.allclose(reconstruction_loss(a, b), wanted)


def test_the_euclidean_map_is_the_root_mean_square_and_sees_strength() -> None:
    encoder = [torch.randn(2, 4, side, side) for side in (16, 8, 4)]
    weaker = [0.5 * scale for scale in encoder]
    assert anomaly_map(encoder, weaker, 64).abs().max() < 1e-5
    flat = [torch.full((1, 4, side, side), 3.0) for side in (16, 8, 4)]
    found = anomaly_map(flat, [0.5 * scale for scale in flat], 64, distance="euclidean", sigma=2.0)
    assert torch.allclose(found, torch.full((1, 64, 64), 3 * 1.5 / 9), atol=1e-5)

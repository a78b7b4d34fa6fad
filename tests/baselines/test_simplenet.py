"""SimpleNet's averages over channels, as a graph has them."""

import pytest
import torch
from torch.nn.functional import adaptive_avg_pool1d

from mambaad.baselines.simplenet import averaging


@pytest.mark.parametrize(("channels", "width"), [(1152, 96), (100, 7), (64, 64), (5, 8)])
def test_the_average_of_a_graph_is_that_of_the_network(channels: int, width: int) -> None:
    values = torch.randn(6, channels)
    torch.testing.assert_close(values @ averaging(channels, width), adaptive_avg_pool1d(values, width))

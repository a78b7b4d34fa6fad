"""SimpleNet's averages over channels, as a graph has them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import adaptive_avg_pool1d

from mambaad.baselines.simplenet import SimpleNet, averaging
from mambaad.config import SimpleNetConfig


@pytest.mark.parametrize(("channels", "width"), [(1152, 96), (100, 7), (64, 64), (5, 8)])
def test_the_average_of_a_graph_is_that_of_the_network(channels: int, width: int) -> None:
    values = torch.randn(6, channels)
    torch.testing.assert_close(values @ averaging(channels, width), adaptive_avg_pool1d(values, width))


def test_no_tensor_of_a_trace_outlives_it() -> None:
    """It would be in the second graph that a program exports."""
    with FakeTensorMode():
        averaging(8, 3)
    assert type(averaging(8, 3)) is torch.Tensor


def test_linear_layers_of_the_encoder_keep_their_weights(tmp_path: Path) -> None:
    """ConvNeXt has some."""
    config = SimpleNetConfig(backbone="convnext_atto", width=48, hidden=16)
    weights = SimpleNet(config, "random").encoder.net.state_dict()
    save_file(weights, tmp_path / "encoder.safetensors")
    found = SimpleNet(config, tmp_path / "encoder.safetensors").encoder.net.state_dict()
    assert all(torch.equal(found[name], value) for name, value in weights.items())

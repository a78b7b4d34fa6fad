"""Devices by name."""

import pytest

from mambaad.device import resolve_device


@pytest.mark.parametrize(
    ("device", "message"),
    [("tpu9", "device must be"), ("cuda:77", "torch sees . CUDA devices"), ("mps", "no 'mps' device")],
)
def test_a_device_that_is_not_there_is_refused(device: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve_device(device)

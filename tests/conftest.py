"""Shared fixtures.  Public tensor functions are checked against their axis names while under test."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

install_import_hook(["mambaad.ops", "mambaad.model"], "beartype.beartype")

# A busy machine is no failure, and a failure has to come back: no deadline, the same examples in every run.
settings.register_profile("repository", deadline=None, derandomize=True)
settings.load_profile("repository")

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference outputs, real images and pretrained encoders beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("needs the folder ../shared (reference outputs, real images, pretrained encoders)")
    return SHARED

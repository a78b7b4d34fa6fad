"""Shared fixtures.  Public tensor functions are checked against their axis names while under test."""

import gc
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

install_import_hook(["mambaad.ops", "mambaad.model", "mambaad.baselines"], "beartype.beartype")

pytest_plugins = ["pytester"]

# A busy machine is no failure, and a failure has to come back: no deadline, the same examples in every run.
settings.register_profile("repository", deadline=None, derandomize=True)
settings.load_profile("repository")

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test marked `never_skipped` fails where another would be skipped: a claim of the README rests on it."""
    report = yield
    if report.skipped and item.get_closest_marker("never_skipped") is not None:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} may not be skipped, but was: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    """Pytest's, a few levels down: who looks for a data set above a folder must not meet those of other tests."""
    own = tmp_path / "one" / "two" / "three"
    own.mkdir(parents=True)
    return own


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images, pretrained encoders and baselines' outputs beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("needs the folder ../shared (real images, pretrained encoders, baselines' outputs)")
    return SHARED


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic category at 64 pixels: 9 training images, 6 of the test; not to be written into."""
    from mambaad.data.synthetic.generate import write_synthetic  # after the import hook

    return write_synthetic(tmp_path_factory.mktemp("set") / "data", side=64, train=9, test=6, categories=("gear",))


@pytest.fixture(scope="module", autouse=True)
def no_session_is_left_for_a_fork() -> Iterator[None]:
    """A session of onnxruntime that waits for the garbage collector hangs a forked process that collects it there."""
    yield
    if "onnxruntime" in sys.modules:
        gc.collect()

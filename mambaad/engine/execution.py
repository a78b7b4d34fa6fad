"""How a run is carried out: where, with how many threads and processes, and with which caches.

None of it belongs to the run's settings or its hash.  The number of threads decides how sums are split, though, and
training amplifies the rounding: the same run with one and with two threads ends in different digits.  It is pinned
therefore, and recorded.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from mambaad.config import RunConfig, method_of

if TYPE_CHECKING:
    import torch

Features = Literal["off", "float32", "float16"]
FEATURES: tuple[str, ...] = get_args(Features)
MOST = 1024  # threads or processes on one machine


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How to carry out a run.  Raises ValueError for a value that is not allowed."""

    device: str = "auto"
    """ "auto" (CUDA if there is one, else the CPU), "cpu", "cuda", "cuda:1", "mps"."""
    threads: int | None = 1
    """CPU threads of torch while the run lasts; None: as many as it has at the moment. The committed records are made
    with one."""
    workers: int = 0
    """Processes that decode images; 0 does it in this one."""
    processes: int = 1
    """Training processes, one per card (or CPU process), which share each batch. The program is started again for all
    but the first; BatchNorm takes the statistics of the whole batch, and stochastic depth is drawn by each process."""
    image_cache: Path | None = None
    """Folder that keeps decoded images from run to run (`mambaad.data.open_image_cache`). None: the memory, if the
    training images take less than 2 GiB, else every epoch decodes them again."""
    features: Features = "off"
    """"float32" or "float16": run the encoder over every training image once and train on its features, kept in this
    type (`mambaad.engine.feature_cache`); "off": run it in every step."""
    feature_dir: Path | None = None
    """Folder that keeps features from run to run; None: the memory of the device."""
    textures: Path | None = None
    """Folder of the textures that the settings of DeSTSeg name, for synthetic anomalies."""
    compile: bool = False
    """Run fusion and decoder through torch.compile; stochastic depth then draws other random numbers."""
    progress: bool = True
    """Show progress on stderr."""

    def __post_init__(self) -> None:
        for name in ("image_cache", "feature_dir", "textures"):
            folder = getattr(self, name)
            object.__setattr__(self, name, None if folder is None else Path(folder))
        if self.features not in FEATURES:
            raise ValueError(f"features must be one of {', '.join(FEATURES)}, got {self.features!r}")
        for name, least in (("threads", 1), ("processes", 1), ("workers", 0)):
            number = getattr(self, name)
            if number is not None and not least <= number <= MOST:
                raise ValueError(f"{name} must be from {least} to {MOST}, got {number}")


@contextmanager
def pinned_threads(threads: int | None) -> Iterator[int]:
    """Gives torch this many CPU threads for a while; yields their number.  None leaves them as they are."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def check_compiler(device: torch.device) -> None:
    """Raise ValueError, with the remedy, if torch.compile cannot make code for `device`."""
    if device.type == "cuda":
        if find_spec("triton") is None:
            raise ValueError("torch.compile needs Triton on CUDA devices: install triton, or go without compile")
    elif not any(map(shutil.which, filter(None, (os.environ.get("CXX"), "g++", "clang++", "c++")))):
        raise ValueError("torch.compile needs a C++ compiler, and none was found: install g++, or go without compile")


def check_run(
    run: RunConfig,
    execution: Execution,
    phases: bool,
    encoder_file: str | Path | None,
    diffusion_file: str | Path | None,
) -> None:
    """Raise ValueError for what cannot be trained as it is asked for, before anything is loaded.

    Args:
        phases: whether the method trains in phases.
    """
    from mambaad.model.encoder_weights import weights_file_name  # torch and timm, which settings do not need

    method, processes = method_of(run.model), execution.processes
    if run.train.batch_size % processes:
        raise ValueError(f"a batch of {run.train.batch_size} images does not split among {processes} processes evenly")
    if phases and run.train.patience is not None:
        raise ValueError(f"{method} trains in phases, whose losses cannot be compared: leave out patience")
    if execution.textures is not None and method != "destseg":
        raise ValueError(f"textures are of destseg, and {method} paints no anomalies: leave them out")
    if diffusion_file is not None and not getattr(run.model, "diffusion_weights", ""):
        raise ValueError(f"the run starts from no diffusion weights, and {diffusion_file} was given: leave it out")
    if encoder_file is not None and (found := weights_file_name(encoder_file)) != run.encoder_weights:
        raise ValueError(f"the run's encoder weights are {run.encoder_weights}, and the file given is {found}")

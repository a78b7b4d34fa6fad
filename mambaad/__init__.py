"""MambaAD, an open reproduction: multi-class unsupervised anomaly detection with state space models.

Each part may import only the parts above it, which is also the order to read them in::

    config      everything that can be set, as frozen dataclasses
    files       writing a file so that nobody meets half of it
    progress    how far long work is
    device      devices by name
    data        images in, tensors out
    ops         the selective scan, along one sequence and along routes through an image
    model       encoder, Half-FPN, scan orders, HSS and LSS blocks, decoder, anomaly map
    baselines   the other methods the paper compares with, and a memory bank, behind one interface
    metrics     AU-ROC, AP, F1max, AU-PRO under two protocols
    efficiency  parameters and FLOPs
    engine      one run: training, evaluation, its record
    inference   what a checkpoint is for: prediction, thresholds, export
    study       the paper's tables: which run stands behind each row, and what was found
    benchmarks  how fast it is here
    cli         the command line
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mambaad import efficiency, metrics
    from mambaad.config import DataConfig, ModelConfig, RunConfig, TrainConfig
    from mambaad.inference.detector import Detector, fit
    from mambaad.model import MambaAD, Prediction, load_checkpoint, save_checkpoint

__version__ = "0.1.0"

__all__ = [
    "DataConfig",
    "Detector",
    "MambaAD",
    "ModelConfig",
    "Prediction",
    "RunConfig",
    "TrainConfig",
    "efficiency",
    "fit",
    "load_checkpoint",
    "metrics",
    "save_checkpoint",
]

_HOME = {
    **dict.fromkeys(("DataConfig", "ModelConfig", "RunConfig", "TrainConfig"), "mambaad.config"),
    **dict.fromkeys(("Detector", "fit"), "mambaad.inference.detector"),
    **dict.fromkeys(("MambaAD", "Prediction", "load_checkpoint", "save_checkpoint"), "mambaad.model"),
}


def __getattr__(name: str) -> Any:
    """Public names are imported at first use: help and errors of the command line need not wait for torch."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in __all__:
        return import_module(f"mambaad.{name}")
    raise AttributeError(f"module 'mambaad' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

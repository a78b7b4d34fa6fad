"""MambaAD, an open reproduction: multi-class unsupervised anomaly detection with state space models.

Reading order: `config` (everything that can be set), `data` (images), `ops.selective_scan` (the recurrence),
`model` (encoder, Half-FPN, scan orders, HSS and LSS blocks, decoder, anomaly map), `train`, `metrics`, `evaluate`,
`records` (what a run leaves behind), `efficiency` (parameters and FLOPs), `study` and `tables` (the paper's tables),
`cli`.
"""

__version__ = "0.1.0"

from mambaad import efficiency, metrics
from mambaad.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from mambaad.model import MambaAD, Prediction, load_checkpoint, save_checkpoint

__all__ = [
    "DataConfig",
    "MambaAD",
    "ModelConfig",
    "Prediction",
    "RunConfig",
    "TrainConfig",
    "efficiency",
    "load_checkpoint",
    "metrics",
    "save_checkpoint",
]

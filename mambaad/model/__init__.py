"""The network, in the paper's order: encoder, Half-FPN, scan orders, hybrid scan, HSS, LSS, decoder, MambaAD, map."""

from mambaad.model.anomaly_map import anomaly_map, image_score, reconstruction_loss
from mambaad.model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from mambaad.model.decoder import Decoder
from mambaad.model.encoder import Encoder
from mambaad.model.encoder_weights import EncoderWeightsError
from mambaad.model.half_fpn import HalfFPN
from mambaad.model.hss import SS2D, HSSBlock
from mambaad.model.lss import LSSModule
from mambaad.model.mambaad import MambaAD, Prediction, check_side
from mambaad.model.scan_order import scan_order

__all__ = [
    "SS2D",
    "CheckpointError",
    "Decoder",
    "Encoder",
    "EncoderWeightsError",
    "HSSBlock",
    "HalfFPN",
    "LSSModule",
    "MambaAD",
    "Prediction",
    "anomaly_map",
    "check_side",
    "image_score",
    "load_checkpoint",
    "reconstruction_loss",
    "save_checkpoint",
    "scan_order",
]

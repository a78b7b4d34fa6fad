"""Image and pixel metrics of anomaly detection under two named protocols.

Reading order: ranking (AU-ROC, AP, F1_max from one sort), aupro (the same sort, weighted by region), report (the seven
numbers of a table, `exact` or `paper`), bounds and streaming (the same from histograms, where the maps do not fit into
memory).
"""

from mambaad.metrics.aupro import aupro
from mambaad.metrics.ranking import auroc, average_precision, f1_max, f1_max_grid
from mambaad.metrics.report import METRICS, PROTOCOLS, evaluate, evaluate_protocols, mean_over_categories
from mambaad.metrics.streaming import Streamed, StreamingMetrics

__all__ = [
    "METRICS",
    "PROTOCOLS",
    "Streamed",
    "StreamingMetrics",
    "aupro",
    "auroc",
    "average_precision",
    "evaluate",
    "evaluate_protocols",
    "f1_max",
    "f1_max_grid",
    "mean_over_categories",
]

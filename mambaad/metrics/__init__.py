"""Image and pixel metrics of anomaly detection under two named protocols.

Reading order: ranking (AU-ROC, AP, F1_max from one sort), aupro (the same sort, weighted by region), report (the seven
numbers of a table, `exact` or `paper`).
"""

from .aupro import aupro
from .ranking import auroc, average_precision, f1_max, f1_max_grid
from .report import METRICS, PROTOCOLS, evaluate, mean_over_categories

__all__ = [
    "METRICS",
    "PROTOCOLS",
    "aupro",
    "auroc",
    "average_precision",
    "evaluate",
    "f1_max",
    "f1_max_grid",
    "mean_over_categories",
]

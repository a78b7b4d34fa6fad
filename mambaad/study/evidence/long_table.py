"""Every recorded value of a group as one long table: the file behind its page."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mambaad.files import atomic_path
from mambaad.study.evidence import protocol
from mambaad.study.evidence.carry_out import recorded

COLUMNS = ("row", "seed", "run_hash", "protocol", "category", "metric", "ours")


def long_table(group: str, results: str | Path) -> pd.DataFrame:
    """One line per row, seed, protocol, category ("mean" first) and metric, in percent, as recorded.

    Raises:
        ValueError: the protocol has no such group.
    """
    lines = []
    for row in protocol.rows(group):
        for seed, record in recorded(row, results).items():
            for rules, report in record["metrics"].items():
                for category, metrics in {"mean": report["mean"], **report["categories"]}.items():
                    for metric, value in metrics.items():
                        lines.append((row.name, seed, record["hash"], rules, category, metric, round(value, 4)))
    return pd.DataFrame(lines, columns=list(COLUMNS))


def write_tables(results: str | Path) -> list[Path]:
    """`<results>/tables/<group>.csv` for every group that has a record; returns their paths."""
    written = []
    for group in protocol.GROUPS:
        table = long_table(group, results)
        path = Path(results) / "tables" / f"{group}.csv"
        if len(table):
            with atomic_path(path) as part:
                table.to_csv(part, index=False, lineterminator="\n")
            written.append(path)
    return written

"""The front page's findings, computed from tables and records: `python -m mambaad.study.front_page RESULTS`."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from mambaad.study import plan
from mambaad.study.audit import claims
from mambaad.study.evidence import protocol, report
from mambaad.study.published_numbers import repository_root
from mambaad.study.tables import COUNT_EQUAL


def findings(results: str | Path) -> list[str]:
    """Five findings as sentences in Markdown.

    Args:
        results: folder with `tables/`. The records on real images are always the committed ones.
    """
    return [
        _counts(Path(results) / "tables"),
        _contradictions(),
        *_evidence(repository_root() / "results" / protocol.NAME),
        "**The printed accuracies remain untested.** They need the six data sets, the paper's encoder and 500 epochs "
        "on GPUs; `mambaad reproduce --profile paper --dry-run` lists the runs.",
    ]


def _counts(tables: Path) -> str:
    frames = [pd.read_csv(path) for path in (tables / f"{table}.csv" for table in plan.TABLES) if path.is_file()]
    lines = pd.concat(frames) if frames else pd.DataFrame(columns=["metric", "paper", "ours", "note"])
    counted = lines[lines["metric"].isin(["params_m", "flops_g"]) & lines["paper"].notna() & lines["ours"].notna()]
    equal = counted["note"].str.contains(COUNT_EQUAL, regex=False, na=False).sum()
    return (
        f"**The network is the published one.** Of {len(counted)} printed parameter and FLOP counts, {equal} are "
        "reproduced to the digit ({doc}`notebooks/table_6_efficiency`); outputs and gradients agree with the published "
        "implementation on its reference cases ({doc}`reproduced_or_not`)."
    )


def _contradictions() -> str:
    found = claims.findings()
    number = int((found["found"] == "found").sum())
    return (
        f"**The paper contradicts itself in {number} places**, from swapped rows to means that do not follow from "
        "their categories, all recomputed in {doc}`notebooks/audit_published_numbers`."
    )


def _evidence(results: Path) -> list[str]:
    done, planned = report.progress(results)
    tested = [sentence for sentence in report.findings(results) if "not tested here yet" not in sentence]
    if not tested:
        return [
            f"**Real images: runs are under way.** {done} of {planned} are recorded, and no claim has yet the three "
            "seeds that a verdict needs ({doc}`notebooks/evidence`)."
        ]
    return [
        f"**On real images**, five seeds per row planned, {done} of {planned} runs recorded "
        f"({{doc}}`notebooks/evidence`): {sentence[0].lower()}{sentence[1:]}"
        for sentence in tested[:2]
    ]


def main(folder: str) -> None:
    """Print the findings as a Markdown list."""
    print("\n".join(f"{number}. {sentence}" for number, sentence in enumerate(findings(folder), start=1)))


if __name__ == "__main__":
    main(*sys.argv[1:])

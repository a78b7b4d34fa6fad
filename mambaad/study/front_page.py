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
from mambaad.study.tables_spec import IN_TABLE_6


def findings(results: str | Path) -> list[str]:
    """The findings as sentences in Markdown, at most five.

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


OTHER_METHODS = {3: "three", 4: "four", 5: "five"}[len(IN_TABLE_6)]


def _counts(tables: Path) -> str:
    frames = [pd.read_csv(path) for path in (tables / f"{table}.csv" for table in plan.TABLES) if path.is_file()]
    lines = pd.concat(frames) if frames else pd.DataFrame(columns=["metric", "paper", "ours", "note"])
    counted = lines[lines["metric"].isin(["params_m", "flops_g"]) & lines["paper"].notna() & lines["ours"].notna()]
    equal = counted["note"].str.contains(COUNT_EQUAL, regex=False, na=False).sum()
    return (
        f"**The networks are the published ones.** Of {len(counted)} printed parameter and FLOP counts of MambaAD, its "
        f"variants and {OTHER_METHODS} other methods, {equal} are reproduced to the digit "
        "({doc}`notebooks/table_6_efficiency`); outputs and gradients agree with the published implementations on "
        "reference cases ({doc}`reproduced_or_not`)."
    )


def _contradictions() -> str:
    found = claims.findings()
    number = int((found["found"] == "found").sum())
    return (
        f"**The paper contradicts itself in {number} places**, from swapped rows to means that do not follow from "
        "their categories, all recomputed in {doc}`notebooks/audit_published_numbers`."
    )


def _evidence(results: Path) -> list[str]:
    """One finding about the ablations, one about the methods; or that the runs are under way."""
    done, planned = report.progress(results)
    ablations = report.verdicts(results, [group for group in protocol.GROUPS if group != protocol.METHODS])
    methods = report.verdicts(results, [protocol.METHODS])
    if not ablations.total() and not methods.total():
        return [
            f"**Real images: runs are under way.** {done} of {planned} are recorded, and no claim has yet the three "
            "seeds that a verdict needs ({doc}`notebooks/evidence`)."
        ]
    found = []
    if ablations.total():
        found.append(
            f"**On real images, of {ablations.total()} claims tested about scan orders and parts of the network, "
            f"{report.counted(ablations)}**, at reduced scale: five categories, 128 pixels, several seeds "
            f"({{doc}}`notebooks/evidence`; {done} of {planned} runs are recorded)."
        )
    if methods.total():
        doubtful = [claim.caveat for claim in protocol.CLAIMS if claim.group == protocol.METHODS and claim.caveat]
        caveat = f" ({len(doubtful)} {doubtful[0]})" if doubtful else ""
        found.append(
            f"**Of {methods.total()} claims that MambaAD beats another method, {report.counted(methods)}{caveat}**, "
            "with the same encoder and as many steps for all, which are not equal chances "
            "({doc}`notebooks/table_1_main_results`)."
        )
    return found


def main(folder: str) -> None:
    """Print the findings as a Markdown list."""
    print("\n".join(f"{number}. {sentence}" for number, sentence in enumerate(findings(folder), start=1)))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What the records of the protocol say, as tables and figures for the book.  Nothing here is typed in by hand."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mambaad.engine.records import record_path
from mambaad.metrics import METRICS
from mambaad.study.evidence import coverage, protocol, sensitivity
from mambaad.study.evidence.carry_out import recorded, replicates
from mambaad.study.evidence.protocol import Claim, Row
from mambaad.study.evidence.statistics import Estimate, paired_difference, row_mean, smaller_than, verdict
from mambaad.study.published_numbers import METRIC_NAMES
from mambaad.study.table_html import signed_end
from mambaad.study.table_view import signed
from mambaad.study.tables_spec import TABLE_1, TABLE_2, TABLE_3, TABLE_4, TABLE_5, TABLE_7, TABLES

FEWEST_SEEDS = 3
TITLES = {
    TABLE_5.name: "Table 5: scan orders",
    TABLE_2.name: "Table 2: one part after the other",
    TABLE_3.name: "Table 3: local and global branches",
    TABLE_1.name: "Table 1: MambaAD with ResNet18",
    TABLE_4.name: "Table 4: encoder and depth",
    TABLE_7.name: "Table 7: designs of the LSS module",
    **{group: f"The methods, with {encoder}" for group, encoder in protocol.COMPARISONS.items()},
}


def status(results: str | Path) -> pd.DataFrame:
    """Runs recorded and planned, by group; a run that two groups share is counted in both."""
    lines = []
    for group in protocol.GROUPS:
        rows = protocol.rows(group)
        done = sum(len(recorded(row, results)) for row in rows)
        lines.append((TITLES[group], len(rows), done, len(rows) * len(protocol.SEEDS)))
    return pd.DataFrame(lines, columns=["group", "rows", "runs recorded", "runs planned"])


def progress(results: str | Path) -> tuple[int, int]:
    """Distinct runs recorded and planned; groups share some."""
    runs = [run.hash for _, _, run in protocol.queue()]
    done = sum(record_path(results, protocol.NAME, run).is_file() for run in runs)
    return done, len(runs)


def row_means(group: str, results: str | Path) -> pd.DataFrame:
    """Mean over seeds of every metric, percent to one decimal; mAD with its 95 % interval and the number of seeds.

    Rows without a record are left out; an interval needs two seeds.
    """
    lines = []
    for row in protocol.rows(group):
        found = recorded(row, results)
        if not found:
            continue
        whole = row_mean({seed: record["replicates"]["mad"] for seed, record in found.items()})
        exact = [record["metrics"]["exact"]["mean"] for record in found.values()]
        line = {"row": row.name, "n": len(found), "mAD": f"{whole.value:.1f}", "95 % interval": interval(whole)}
        line |= {METRIC_NAMES[name]: f"{np.mean([values[name] for values in exact]):.1f}" for name in METRICS}
        lines.append(line)
    return pd.DataFrame(lines)


def listed(names: Iterable[str]) -> str:
    """ "a, b and c"; semicolons where a name has a comma of its own."""
    *first, last = names
    comma = "; " if any("," in name for name in (*first, last)) else ", "
    return f"{comma.join(first)} and {last}" if first else last


def interval(estimate: Estimate, difference: bool = False) -> str:
    """ "71.2 to 73.4", or nothing where there is none; the ends of a difference as `table_html.signed_end` has them."""
    if math.isnan(estimate.low):
        return ""
    low, high = (signed_end(end) if difference else f"{end:.1f}" for end in (estimate.low, estimate.high))
    return f"{low} to {high}"


def in_points(value: float) -> str:
    """A difference to one decimal, see `table_view.signed`."""
    return signed(value, 1)


def compare(claim: Claim, results: str | Path) -> Estimate | None:
    """The difference that a claim is about; None if the rows share no recorded seed."""
    rows = {row.name: row for row in protocol.rows(claim.group)}
    ours, theirs = (replicates(rows[name], results) for name in (claim.row, claim.reference))
    return paired_difference(ours, theirs) if set(ours) & set(theirs) else None


def claims(results: str | Path, group: str | None = None) -> pd.DataFrame:
    """Every claim with the difference measured, in points of mAD, and the verdict by the protocol's rule."""
    lines = []
    for claim in protocol.CLAIMS:
        if group in (None, claim.group):
            found = compare(claim, results)
            lines.append(
                {
                    "claim": f"{claim.row} is better than {claim.reference}{_with_encoder(claim)}",
                    "table": _table(claim),
                    "n": found.n if found else 0,
                    "difference": in_points(found.value) if found else "",
                    "95 % interval": interval(found, difference=True) if found else "",
                    "verdict": ", ".join(filter(None, (in_words(found, claim.sign), claim.caveat))),
                    "detectable": f"{found.detectable:.1f}" if found and found.n > 1 else "",
                }
            )
    return pd.DataFrame(lines)


def _table(claim: Claim) -> str:
    if claim.reference == "memory bank":
        return "not in the paper"
    return str(TABLES[claim.group].number) if claim.group in TABLES else "1, 6"


def _with_encoder(claim: Claim) -> str:
    """Three groups make the same comparisons, each with an encoder of its own."""
    return f" (both with {protocol.COMPARISONS[claim.group]})" if claim.group in protocol.COMPARISONS else ""


def in_words(found: Estimate | None, sign: int) -> str:
    """The verdict, with the size that an unseen difference stays below."""
    result = verdict(found, sign)
    if result == "no difference seen" and found is not None:
        return f"{result} (smaller than {smaller_than(found):.1f})"
    return result


def verdicts(results: str | Path, groups: Iterable[str]) -> Counter[str]:
    """How often each verdict was given to the claims about some groups; those not tested are left out."""
    found = [
        verdict(compare(claim, results), claim.sign)
        for group in groups
        for claim in protocol.CLAIMS
        if claim.group == group
    ]
    return Counter(result for result in found if result != "not tested here")


def about_parts(results: str | Path) -> Counter[str]:
    """The verdicts on the claims about scan orders and parts of the network."""
    return verdicts(results, [group for group in protocol.GROUPS if group not in protocol.COMPARISONS])


def by_chance(results: str | Path) -> str:
    """How many claims about parts of the network show a difference, and how many would if no part made one; empty
    without simulations."""
    simulated, found = coverage.stored(results), about_parts(results)
    if not simulated or not found.total():
        return ""
    parts = [compare(claim, results) for claim in protocol.CLAIMS if claim.group not in protocol.COMPARISONS]
    fewest = min(part.n for part in parts if part and part.n >= FEWEST_SEEDS)  # the least covered of them
    low, high = coverage.by_chance(simulated, found.total(), fewest)
    return (
        f"{found.total() - found['no difference seen']} of the {found.total()} intervals about parts of the network "
        "exclude zero; intervals from so few seeds are somewhat too narrow, so chance alone would give "
        f"{low:.0f} to {high:.0f} on average if no part made a difference, and often fewer or more, as most "
        "comparisons share the main row's runs"
    )


def adjusted(results: str | Path) -> str:
    """That the intervals are not adjusted for their number, and what that means for the parts of the network."""
    chance = by_chance(results)
    return f"They are not adjusted for {len(protocol.CLAIMS)} claims" + (f": {chance}." if chance else ".")


def counted(found: Counter[str]) -> str:
    """Verdicts in words: "2 are supported, 1 is contradicted, 3 show no difference"."""
    words = {
        "supported": ("is supported", "are supported"),
        "contradicted": ("is contradicted", "are contradicted"),
        "no difference seen": ("shows no difference", "show no difference"),
    }
    return ", ".join(f"{found[kind]} {words[kind][found[kind] != 1]}" for kind in words if found[kind])


def findings(results: str | Path) -> list[str]:
    """One sentence per group about which the paper claims something: how many of its claims hold here."""
    return [f"{_sentence_head(group)} {sentence}" for group in protocol.GROUPS if (sentence := finding(group, results))]


def _sentence_head(group: str) -> str:
    return f"{TITLES[group].replace(': ', ', ')}:"


def finding(group: str, results: str | Path) -> str:
    """How many of the claims about one group hold here, as a sentence; empty if there is none."""
    number = sum(claim.group == group for claim in protocol.CLAIMS)
    if not number:
        return ""
    found = verdicts(results, [group])
    if not found.total():
        return "not tested here yet."
    if number == 1:
        return f"the one claim {counted(found).removeprefix('1 ')}."
    rest = f", {number - found.total()} not tested" if found.total() < number else ""
    return f"of {number} claims, {counted(found)}{rest}."


def whole_decoder(results: str | Path) -> str:
    """The paper's decoder against a plain Mamba decoder (first and last row of table 2), as a clause; empty if they
    share fewer seeds than a verdict needs."""
    plain, whole = (row for row in protocol.rows(TABLE_2.name) if row.name in ("Mamba decoder", "+ LSS + HSS"))
    ours, theirs = replicates(whole, results), replicates(plain, results)
    if len(set(ours) & set(theirs)) < FEWEST_SEEDS:
        return ""
    found = paired_difference(ours, theirs)
    numbers = f"({in_points(found.value)}, {interval(found, difference=True)}, {found.n} seeds)"
    if found.low <= 0 <= found.high:
        return f"MambaAD's full decoder and a plain Mamba decoder show no difference {numbers}"
    side = "below" if found.value < 0 else "above"
    return f"MambaAD's full decoder scores {abs(found.value):.1f} points of mAD {side} a plain Mamba decoder {numbers}"


def depth_outside_the_paper(results: str | Path) -> str:
    """What the depths of table 4 do with EfficientNet-Lite0, about which the paper says nothing, as a sentence; empty
    where a row is missing."""
    rows = {row.name: replicates(row, results) for row in protocol.rows(TABLE_4.name)}
    base, paper, steep = (rows[f"EfficientNet-Lite0 [{depths}]"] for depths in ("2,2,2,2", "3,4,6,3", "2,9,2,2"))
    if not (set(base) & set(steep) and set(paper) & set(steep)):
        return ""
    deeper, text = paired_difference(steep, base), paired_difference(paper, steep)
    return (
        "The rows with EfficientNet-Lite0 are not in the paper and bear on no verdict. There depths 2, 9, 2, 2 minus "
        f"2, 2, 2, 2 are {in_points(deeper.value)} ({interval(deeper, difference=True)}, n {deeper.n}), and the text's "
        f"comparison, 3, 4, 6, 3 minus 2, 9, 2, 2, is {in_points(text.value)} ({interval(text, difference=True)}, "
        f"n {text.n})."
    )


def categories(row: Row, results: str | Path) -> pd.DataFrame:
    """A row by category: mean over seeds, and the range from the lowest to the highest seed."""
    found = recorded(row, results)
    lines = []
    for name in next(iter(found.values()))["metrics"]["exact"]["categories"] if found else ():
        values = [record["metrics"]["exact"]["categories"][name] for record in found.values()]
        line = {"category": name.replace("_", " ")}
        for metric in ("image_auroc", "pixel_auroc", "pixel_aupro", "mad"):
            own = [value[metric] for value in values]
            label = "mAD" if metric == "mad" else METRIC_NAMES[metric]
            line[label] = f"{np.mean(own):.1f} ({min(own):.1f} to {max(own):.1f})"
        lines.append(line)
    return pd.DataFrame(lines)


def sensitivities(record: Mapping[str, Any]) -> pd.DataFrame:
    """`sensitivity.table` in words for the page, the protocols' difference last."""
    paper = sensitivity.table(record, [sensitivity.PUBLISHED], "paper").assign(reading="protocol paper")
    lines = []
    for line in pd.concat([sensitivity.table(record).iloc[1:], paper]).to_dict("records"):
        shifts = {name: in_points(line[name]) for name in ("mad", "image_auroc", "pixel_auroc", "pixel_aupro")}
        low, high = in_points(line["mad_low"]), in_points(line["mad_high"])
        lines.append(
            {"post-processing": line["reading"], "n": line["n"], "mAD": shifts["mad"], "seeds": f"{low} to {high}"}
            | {METRIC_NAMES[name]: shifts[name] for name in ("image_auroc", "pixel_auroc", "pixel_aupro")}
        )
    return pd.DataFrame(lines)

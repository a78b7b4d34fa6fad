"""What the front page shows, computed from tables, records and the book's network:
`python -m mambaad.study.front_page RESULTS FOLDER` writes findings.md, claims.html and example.html into FOLDER."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from mambaad.data.synthetic.generate import draw
from mambaad.files import write_text
from mambaad.study import plan, table_html
from mambaad.study.audit import checks, claims
from mambaad.study.book_network import book_network, book_run
from mambaad.study.compare import SHOWN, Case, compare
from mambaad.study.evidence import method_report, protocol, report
from mambaad.study.evidence.statistics import verdict
from mambaad.study.published_numbers import load, repository_root
from mambaad.study.table_html import Column, Markup
from mambaad.study.tables import COUNT_EQUAL
from mambaad.study.tables_spec import IN_TABLE_6, TABLE_1, TABLE_2, TABLE_3, TABLE_4, TABLE_5, TABLE_7, TABLES


@dataclass(frozen=True)
class Claimed:
    """One sentence of the paper that several comparisons of the protocol bear on."""

    sentence: str
    group: str
    references: tuple[str, ...] = ()
    """The rows that the comparisons are with; empty: all of the group's."""
    untested: tuple[str, ...] = ()
    """Rows that the paper compares with and no run here does."""


ONE_ORDER = ("sweep 8", "scan 8", "zorder 8", "zigzag 8")
FEWER = ("hilbert 2", "hilbert 4")
OF_THE_PAPER = ("RD4AD", "UniAD", "SimpleNet", "DeSTSeg")
CLAIMED = (
    Claimed("The Hilbert curve is the best single scan order", TABLE_5.name, ONE_ORDER),
    Claimed("Eight routes are better than two or four", TABLE_5.name, FEWER),
    Claimed(
        "One order is better than a mixture of several",
        TABLE_5.name,
        tuple(
            claim.reference
            for claim in protocol.CLAIMS
            if claim.group == TABLE_5.name and claim.reference not in (*ONE_ORDER, *FEWER)
        ),
    ),
    Claimed("The LSS module improves a plain Mamba decoder", TABLE_2.name, ("Mamba decoder",)),
    Claimed("Hilbert order and eight routes improve it further", TABLE_2.name, ("+ LSS",)),
    Claimed("Local and global branch together beat either alone", TABLE_3.name),
    Claimed("Decoder depths 3, 4, 6, 3 are better than 2, 2, 2, 2 (ResNet18)", TABLE_4.name),
    Claimed("The chosen design of the LSS module is the best", TABLE_7.name),
    *(
        Claimed(
            f"MambaAD beats the other methods ({protocol.COMPARISONS[group]} for all)",
            group,
            OF_THE_PAPER,
            untested=("DiAD",),
        )
        for group in (protocol.METHODS, protocol.METHODS_RESNET18)
    ),
    Claimed("MambaAD beats RD4AD (MobileNetV2 for both)", protocol.METHODS_MOBILENETV2, ("RD4AD",)),
    Claimed("MambaAD beats RD4AD (MobileNetV1 for both)", protocol.METHODS_MOBILENETV1, ("RD4AD",)),
    *(
        Claimed(f"MambaAD beats a memory bank ({encoder} for both; not in the paper)", group, ("memory bank",))
        for group, encoder in protocol.COMPARISONS.items()
    ),
)


def findings(results: str | Path) -> list[str]:
    """The findings as sentences in Markdown, at most five.

    Args:
        results: folder with `tables/`. The records on real images are always the committed ones.
    """
    return [
        _counts(Path(results) / "tables"),
        _contradictions(),
        *_evidence(repository_root() / "results" / protocol.NAME),
        "**The reported accuracies remain untested.** They need the six data sets, the paper's encoder and 500 epochs "
        "on GPUs; `mambaad reproduce --profile paper --dry-run` lists the runs.",
    ]


OTHER_METHODS = {3: "three", 4: "four", 5: "five"}[len(IN_TABLE_6)]


def _counts(tables: Path) -> str:
    found = [_distinct_counts(name, path) for name in plan.TABLES if (path := tables / f"{name}.csv").is_file()]
    counted = pd.concat(found) if found else pd.DataFrame(columns=["note"])
    equal = counted["note"].str.contains(COUNT_EQUAL, regex=False, na=False).sum()
    return (
        f"**The networks match the published ones.** Of {len(counted)} reported parameter and FLOP counts of MambaAD, "
        f"its variants and {OTHER_METHODS} other methods, {equal} are reproduced to the digit "
        "({doc}`notebooks/table_6_efficiency`). On reference cases outputs agree with the published implementations, "
        "and so do MambaAD's gradients and the gradient norms of four other methods ({doc}`reproduced_or_not`)."
    )


def _seeds(results: Path) -> str:
    """Fewest and most seeds behind a verdict about parts of the network, such as "3 to 5"."""
    parts = [claim for claim in protocol.CLAIMS if claim.group not in protocol.COMPARISONS]
    numbers = [found.n for claim in parts if (found := report.compare(claim, results))]
    judged = sorted({n for n in numbers if n >= report.FEWEST_SEEDS})
    return f"{judged[0]} to {judged[-1]}" if len(judged) > 1 else f"{judged[0]}"


def _distinct_counts(name: str, path: Path) -> pd.DataFrame:
    """The compared counts of one table: once for each network, though the table names it for several data sets."""
    lines = pd.read_csv(path)
    lines = lines[lines["metric"].isin(["params_m", "flops_g"]) & lines["paper"].notna() & lines["ours"].notna()]
    labels = [label for label in lines.columns[: lines.columns.get_loc("metric") + 1] if label != "dataset"]
    return lines.drop_duplicates(labels)


def _contradictions() -> str:
    found = claims.findings()
    number = int((found["found"] == "found").sum())
    return (
        f"**An audit lists {number} inconsistencies and doubtful points in the reported numbers**, from swapped rows "
        "to values that no ranking of the test images can have; some are corrected in the NeurIPS version "
        "({doc}`notebooks/audit_published_numbers`)."
    )


def _evidence(results: Path) -> list[str]:
    """One finding about the ablations, one about the methods; or that the runs are under way."""
    done, planned = report.progress(results)
    ablations, chance = report.about_parts(results), report.by_chance(results)
    methods = report.verdicts(results, protocol.COMPARISONS)
    if not ablations.total() and not methods.total():
        return [
            f"**Real images: runs are under way.** {done} of {planned} are recorded, and no claim has yet the three "
            "seeds that a verdict needs ({doc}`notebooks/evidence`)."
        ]
    found = []
    if ablations.total():
        whole = report.whole_decoder(results)
        found.append(
            f"**On real images, of {ablations.total()} claims tested about scan orders and parts of the network, "
            f"{report.counted(ablations)}**, at reduced scale: five categories, 128 pixels, {_seeds(results)} seeds "
            f"({{doc}}`notebooks/evidence`; {done} of {planned} runs are recorded; accuracies are {{term}}`mAD`)"
            + "".join(f"; {clause}" for clause in (whole, chance) if clause)
            + "."
        )
    return [*found, method_report.sentence(results)] if methods.total() else found


def judged(results: str | Path) -> list[tuple[Claimed, int, Counter[str]]]:
    """Each claim, the number of its comparisons, and their verdicts."""
    found = []
    for claimed in CLAIMED:
        own = [claim for claim in protocol.CLAIMS if _bears(claim, claimed)]
        verdicts: Counter[str] = Counter(verdict(report.compare(claim, results), claim.sign) for claim in own)
        verdicts["not tested here"] += len(claimed.untested)
        found.append((claimed, len(own) + len(claimed.untested), verdicts))
    return found


def _bears(claim: protocol.Claim, claimed: Claimed) -> bool:
    """Whether a comparison of the protocol bears on a sentence of the paper."""
    return claim.group == claimed.group and (not claimed.references or claim.reference in claimed.references)


def overall(number: int, verdicts: Counter[str]) -> str:
    """The verdict on a claim that rests on several comparisons, by the rule that the front page states."""
    if verdicts["not tested here"] == number:
        return "not tested here"
    if verdicts["contradicted"]:
        return "contradicted"
    if verdicts["supported"] == number:
        return "supported"
    return "partly supported" if verdicts["supported"] else "no difference seen"


def _comparisons(number: int) -> str:
    return f"{number} comparison{'s' if number > 1 else ''}"


def claims_table(results: str | Path) -> str:
    """The paper's claims with their verdicts, as HTML."""
    best = "State of the art on six data sets with seven metrics"
    lines = [(best, _reported(), _verdict("not tested here"), _page(1))]
    for claimed, number, verdicts in judged(results):
        kinds = ("supported", "contradicted", "no difference seen", "not tested here")
        counts = f"{_comparisons(number)}: " + ", ".join(f"{verdicts[kind]} {kind}" for kind in kinds if verdicts[kind])
        doubtful = [claim.caveat for claim in protocol.CLAIMS if _bears(claim, claimed) and claim.caveat]
        counts += f" ({_comparisons(len(doubtful))} {doubtful[0]})" if doubtful else ""
        table = TABLES[claimed.group].number if claimed.group in TABLES else TABLE_1.number
        lines.append((claimed.sentence, counts, _verdict(overall(number, verdicts)), _page(table)))
    names, found, words, pages = zip(*lines, strict=True)
    columns = [Column("found here", found), Column("verdict", words), Column("evidence", pages)]
    caption = (
        "Claims of the paper, and comparisons of our own with a memory bank: what paired runs on five real "
        f"categories at {protocol.SIDE} pixels say. Supported: every comparison supports the claim. Partly supported: "
        "some do, and none contradicts it. Contradicted: at least one does. A comparison counts only if its interval "
        "excludes zero. The rule for one comparison was fixed before the runs, this summary of several was not: one "
        "interval among many can decide it, so read the counts. The intervals are not adjusted for "
        f"{len(protocol.CLAIMS)} comparisons, so a few may exclude zero by chance."
    )
    return f'<div class="whole">{table_html.table(names, columns, caption, head="claimed", stacked=True).data}</div>'


def _reported() -> str:
    printed = load("main_results")
    cells = len(printed[(printed["method"] == "MambaAD") & (printed["metric"] != "mad")])
    alone = cells - len(checks.best_methods())
    return f"not run; in the paper's tables MambaAD alone is best in {alone} of {cells} cells"


def _verdict(words: str) -> Markup:
    return Markup(f'<span class="verdict {words.split()[0]}">{words}</span>')


def _page(number: int) -> Markup:
    name = next(name for name, table in TABLES.items() if table.number == number)
    return Markup(f'<a href="notebooks/{name}.html">table {number}</a>')


EXAMPLES = (
    ("gear", "missing", "gear, a piece missing"),
    ("fabric", "scratch", "fabric, scratched"),
    ("resistor", "bent", "resistor, bent"),
    ("perforated", "contamination", "perforated sheet, dirty"),
    ("gear", "good", "gear, good"),
)
"""Category, defect and name of the images on the front page, chosen before their maps were seen."""
INDEX = 51  # the first image, which the chapters return to: the network was neither trained nor tested on it


def example() -> str:
    """Synthetic test images and the maps of the network that comes with the book, as an HTML figure."""
    model, side = book_network(), book_run().data.side
    cases = []
    for category, defect, name in EXAMPLES:
        image, mask = draw(category, SHOWN, split="test", index=INDEX, defect=defect)
        small = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))
        with torch.no_grad():
            found = model.predict(model.normalize(torch.from_numpy(small.copy()).permute(2, 0, 1)[None] / 255))
        anomaly_map, score = found.anomaly_map[0].numpy(), float(found.score[0])
        cases.append(Case(name, image, anomaly_map, mask, score))
    good = [case.score for case in cases if not case.mask.any()]
    worst = max(case.score for case in cases)
    return compare(
        cases,
        "Synthetic test images and the anomaly maps of the small network that comes with this book; it has seen good "
        "parts only. White outline: the defect. Nothing here is a result on real images.",
        scale=(max(good), max(worst, max(good) * 1.5)),
    )


def write(results: str | Path, folder: str | Path) -> None:
    """The three files that the front page includes."""
    numbered = (f"{number}. {sentence}" for number, sentence in enumerate(findings(results), start=1))
    write_text(Path(folder) / "findings.md", "\n".join(numbered) + "\n")
    write_text(Path(folder) / "claims.html", claims_table(repository_root() / "results" / protocol.NAME) + "\n")
    write_text(Path(folder) / "example.html", example() + "\n")


if __name__ == "__main__":
    write(*sys.argv[1:3])

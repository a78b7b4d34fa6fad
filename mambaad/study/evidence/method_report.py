"""What the comparisons of methods say, encoder by encoder, as one paragraph for the front page."""

from __future__ import annotations

from pathlib import Path

from mambaad.study.evidence import curve_report, protocol, report
from mambaad.study.evidence.report import listed
from mambaad.study.evidence.statistics import verdict


def sentence(results: str | Path) -> str:
    """The verdicts with each encoder; methods whose verdict turns with the encoder are named."""
    encoders: dict[str, dict[str, list[str]]] = {}  # by method and verdict
    parts = []
    for group, encoder in protocol.COMPARISONS.items():
        claims = [claim for claim in protocol.CLAIMS if claim.group == group]
        for claim in claims:
            kind = verdict(report.compare(claim, results), claim.sign)
            encoders.setdefault(claim.reference, {}).setdefault(kind, []).append(encoder)
        if report.verdicts(results, [group]).total():
            found = report.finding(group, results).removesuffix(".")
            parts.append(f"with {encoder}{_few_seeds(claims, results)}, {found}{_caveat(claims, results)}")
    turned: dict[str, list[str]] = {}
    for name, kinds in encoders.items():
        if {"supported", "contradicted"} <= kinds.keys():
            words = f"with {listed(kinds['supported'])}, and behind with {listed(kinds['contradicted'])}"
            turned.setdefault(words, []).append("the memory bank" if name == "memory bank" else name)
    lead = "Whether MambaAD beats another method depends on the encoder" if turned else "MambaAD against other methods"
    differ = "".join(f" It is ahead of {listed(names)} {words}." for words, names in turned.items())
    said = " ".join(filter(None, (f"**{lead}: {'; '.join(parts)}.**{differ}", curve_report.distance(results))))
    return (
        f"{said} All methods of a comparison had the same encoder and the same number of steps, which favours those "
        "that learn quickly. These counts include the {term}`memory bank`, which is not in the paper, and leave out "
        "DiAD, which was not judged ({doc}`notebooks/table_1_main_results`)."
    )


def _few_seeds(claims: list[protocol.Claim], results: str | Path) -> str:
    """ " (3 seeds)" where a comparison of the group has fewer than were planned; empty otherwise."""
    numbers = sorted({found.n for claim in claims if (found := report.compare(claim, results))})
    judged = [n for n in numbers if n >= report.FEWEST_SEEDS]
    if judged == [len(protocol.SEEDS)]:
        return ""
    return f" ({judged[0]} seeds)" if len(judged) == 1 else f" ({judged[0]} to {judged[-1]} seeds)"


def _caveat(claims: list[protocol.Claim], results: str | Path) -> str:
    doubtful = [claim.caveat for claim in claims if claim.caveat and report.compare(claim, results)]
    return f" ({len(doubtful)} comparison{'s' * (len(doubtful) > 1)} {doubtful[0]})" if doubtful else ""

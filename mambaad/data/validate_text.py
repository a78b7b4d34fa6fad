"""What a check of a data set found, as text."""

from __future__ import annotations

from mambaad.data.validate import NAMES, SPLITS, Report

SHOWN = 20  # faults and notes that are listed


def render(report: Report) -> str:
    """The report as text: counts with the published ones in brackets, faults, notes, and OK or what to do."""
    lines = [f"{report.root}: {report.dataset or 'layout not recognised'}"]
    if report.counts:
        lines += ["", *_table(report), ""]
    for title, entries in (("faults", report.problems), ("notes", report.notes)):
        if entries:
            lines.append(f"{title}: {len(entries):,}")
            lines += [f"  {entry}" for entry in entries[:SHOWN]]
            if len(entries) > SHOWN:
                lines.append(f"  and {len(entries) - SHOWN:,} more, all with --json")
    how = "headers read" if report.quick else "files opened and decoded"
    lines.append(f"{report.opened:,} {how}")
    lines.append("OK" if report.ok else "NOT OK: put right what is named under faults and check again")
    return "\n".join(lines)


def _table(report: Report) -> list[str]:
    rows: dict[str, dict[str, int] | None] = dict(report.counts)
    rows |= {name: None for name in report.published if name not in rows}  # not here at all
    published = dict(report.published)
    if len(rows) > 1:
        rows["total"] = {k: sum(row[k] for row in report.counts.values()) for k in SPLITS}
        published["total"] = report.published_total
    width = max(map(len, rows))
    lines = [f"{'':{width}}  " + "  ".join(f"{name + ' images':>22}" for name in NAMES)]
    for name, row in rows.items():
        theirs = published.get(name)
        ours = {k: f"{row[k]:,}" if row else "-" for k in SPLITS}
        cells = (f"{ours[k]} ({theirs[k]:,})" if theirs else ours[k] for k in SPLITS)
        lines.append(f"{name:{width}}  " + "  ".join(f"{cell:>22}" for cell in cells))
    if any(published.values()):
        lines.append("in brackets: as published")
    unknown = [name for name, values in report.published.items() if values is None]
    if unknown:
        lines.append(f"published count not known: {', '.join(unknown)}")
    return lines

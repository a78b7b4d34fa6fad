"""The report's tables of facts: times, settings, and what the page was made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

from mambaad.inference.report import AGREEMENT, Report


def timing(report: Report) -> str:
    """Section: how long it took, and where."""
    record, train = report.record, report.record["train"]
    rows = {
        "whole run, from reading the images to the last metric": f"{record['wall_seconds']:.0f} s",
        "training": f"{train['steps'] * train['seconds_per_step']:.0f} s, {train['steps']} steps"
        if train["loss"]
        else f"{train['seconds_per_step']:.1f} s, one pass",
        "trained on": _machine(record["environment"]),
    }
    if report.evaluated is not None:
        rows["reading and scoring a test image, for this page"] = f"{1000 * report.evaluated.seconds_per_image:.0f} ms"
        rows["this page made on"] = _machine(report.evaluated.environment)
    note = "Measured while other work may have run on the machine."
    return f'<section><h2>Timing</h2>{_table(rows)}<p class="note">{note}</p></section>'


def _machine(environment: Mapping[str, Any]) -> str:
    return f"{environment['device']}, threads: {environment['threads']}, scan backend {environment['scan_backend']}"


def settings(report: Report) -> str:
    """Section: every value of the run's settings, folded."""
    rows: dict[str, str] = {}

    def add(name: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                add(f"{name}.{key}" if name else key, inner)
        else:
            rows[name] = json.dumps(value)

    add("", report.record["config"])
    add("execution", report.record.get("execution", {}))
    return f"<section><h2>Settings</h2><details><summary>{len(rows)} values</summary>{_table(rows)}</details></section>"


def provenance(report: Report) -> str:
    """Section: data, checkpoint and code behind the page, and whether the second evaluation agrees with the first."""
    record, evaluated = report.record, report.evaluated
    data, encoder = record["data"], record["encoder"]
    rows = {
        "data": f"{data['dataset']}, index hash {data['index_hash']}",
        "images": "; ".join(
            f"{name}: {', '.join(f'{number} {kind}' for kind, number in own.items())}"
            for name, own in data["counts"].items()
        ),
        "checkpoint": f"sha256 {report.checkpoint_sha256}",
        "encoder": f"{encoder['name']}, weights {encoder['weights']}, sha256 {encoder['sha256']}",
        "seed": str(record["seed"]),
        "trained by": _code(record["environment"]),
    }
    if evaluated is not None:
        rows["this page by"] = _code(evaluated.environment)
        rows["evaluated again"] = (
            f"yes: all metrics agree with the record within {AGREEMENT} points"
            if evaluated.difference <= AGREEMENT
            else f"yes, and it differs: {evaluated.differs} by {evaluated.difference:.3g} points. "
            "The checkpoint is not that of the record, or the code has changed since"
        )
    return f"<section><h2>Where this comes from</h2>{_table(rows)}</section>"


def _code(environment: Mapping[str, Any]) -> str:
    code, packages = environment["code"], environment["packages"]
    commit = f"commit {code['commit']}" if code["commit"] else "no commit known"
    changed = ", with uncommitted changes" if code["dirty"] else ""
    return (
        f"mambaad {packages['mambaad']}, {commit}{changed}; torch {packages['torch']}, Python {environment['python']}"
    )


def _table(rows: Mapping[str, str]) -> str:
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows.items()
    )
    return f'<table class="facts"><tbody>{body}</tbody></table>'

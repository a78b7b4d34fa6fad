"""The records of scripts/reliability as tables: faults injected, kills survived, inputs tried, mutations, coverage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

SURVIVORS = "survivors.json"
"""Beside the records: why each mutation that no test noticed went unnoticed, by its key."""


def read_records(folder: str | Path) -> dict[str, list[dict[str, Any]]]:
    """The records by kind; empty for a folder that is not there."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(Path(folder).glob("*.json")):
        if path.name != SURVIVORS:
            record = json.loads(path.read_text(encoding="utf-8"))
            found.setdefault(record["kind"], []).append(record)
    return found


def kills(records: list[dict[str, Any]]) -> pd.DataFrame:
    """One row per record: signals sent, runs, and how many ended bit for bit as an undisturbed one."""
    rows = [
        {
            "signal": record["signal"],
            "processes": record["processes"],
            "signals sent": record["kills"],
            "runs": record["runs"],
            "ended like an undisturbed run": record["runs_equal"],
            **{f"hit {moment}": record["moments"].get(moment, 0) for moment in _moments(records)},
        }
        for record in records
    ]
    return pd.DataFrame(rows)


def _moments(records: list[dict[str, Any]]) -> list[str]:
    order = ("before the first state", "training", "evaluation and record", "while writing a file", "after the record")
    there = {moment for record in records for moment in record["moments"]}
    return [moment for moment in order if moment in there]


def faults(records: list[dict[str, Any]]) -> pd.DataFrame:
    """One row per fault: exit code, what was said, and whether the same command then ended in the same weights."""
    rows = [
        {
            "fault": name.replace("_", " "),
            "exit code": fault.get("exit_code", "-"),
            "said": " ".join(fault.get("said", [fault.get("why", "")])),
            "same weights afterwards": "yes" if fault.get("same_weights_afterwards") else "no",
        }
        for record in records
        for name, fault in record["faults"].items()
    ]
    return pd.DataFrame(rows)


def workflows(records: list[dict[str, Any]]) -> pd.DataFrame:
    """One row per record: workflows killed until they finished, and two at once on one folder."""
    rows = [
        {
            "records made": record["records"],
            "kills": record["kills"],
            "passes": record["passes"],
            "records like an undisturbed workflow's": record["passes_equal"],
            "two at once: exit codes": ", ".join(map(str, record["together"]["exit_codes"])),
            "then the same records": "yes" if record["together"]["equal"] else "no",
        }
        for record in records
        if "together" in record
    ]
    return pd.DataFrame(rows)


def memory(records: list[dict[str, Any]]) -> pd.DataFrame:
    """One row per record: memory in use early and late in an evaluation, against what the maps alone would take."""
    rows = []
    for record in records:
        (early, first), (late, last) = record["resident_mb"][1], record["resident_mb"][-1]
        rows.append(
            {
                "images": f"{record['images']:,}",
                "side, px": record["side"],
                f"in use after {early:,}, MB": round(first),
                f"in use after {late:,}, MB": round(last),
                "all maps would take, MB": round(record["maps_would_take_mb"]),
            }
        )
    return pd.DataFrame(rows)


def inputs(records: list[dict[str, Any]]) -> pd.DataFrame:
    """One row per kind of input: how many were tried, worked, were refused in one sentence, or went wrong."""
    rows = [
        {
            "read": name,
            "inputs": number,
            "worked": record["endings"][name].get("0", 0),
            "refused": sum(record["endings"][name].get(code, 0) for code in ("1", "2")),
            "wrong": record["endings"][name].get("wrong", 0),
        }
        for record in records
        for name, number in record["inputs"].items()
    ]
    frame = pd.DataFrame(rows)
    if len(frame):
        frame.loc[len(frame)] = {"read": "all", **frame.drop(columns="read").sum().to_dict()}
    return frame


def mutations(records: list[dict[str, Any]]) -> pd.DataFrame:
    """One row per file: mutations there are, tried, and noticed by the tests."""
    rows = []
    for record in records:
        for name, file in record["files"].items():
            tried = file["tried"].values()
            rows.append(
                {
                    "file": name,
                    "mutations there are": file["mutations"],
                    "tried": len(tried),
                    "noticed": sum(not mutation["survived"] for mutation in tried),
                }
            )
    frame = pd.DataFrame(rows)
    if len(frame):
        frame.loc[len(frame)] = {"file": "all", **frame.drop(columns="file").sum().to_dict()}
        frame["score, %"] = (100 * frame["noticed"] / frame["tried"].where(frame["tried"] > 0)).round(1)
    return frame


def survivors(records: list[dict[str, Any]], folder: str | Path) -> pd.DataFrame:
    """The mutations that no test noticed, and why, as far as that was looked into."""
    path = Path(folder) / SURVIVORS
    reasons = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    rows = [
        {
            "file": name,
            "change": " → ".join(line[1:].strip() for line in mutation["change"]),
            "why": reasons.get(key, "not looked into yet"),
        }
        for record in records
        for name, file in record["files"].items()
        for key, mutation in file["tried"].items()
        if mutation["survived"]
    ]
    return pd.DataFrame(rows, columns=["file", "change", "why"])


def coverage(records: list[dict[str, Any]]) -> pd.DataFrame:
    """One row per part of the package: lines and branches, and the share of them that the tests reach."""
    rows = [
        {
            "part": name,
            "lines": part["lines"],
            "branches": part["branches"],
            "lines reached, %": round(100 * part["lines_reached"] / max(part["lines"], 1), 1),
            "branches reached, %": round(100 * part["branches_reached"] / max(part["branches"], 1), 1),
        }
        for record in records
        for name, part in record["parts"].items()
    ]
    return pd.DataFrame(rows)


def left_out(records: list[dict[str, Any]]) -> str:
    """What counts in these records and what does not, in words."""
    number = sum(record["parts"]["all"]["lines_left_out"] for record in records)
    failed = "" if all(record["passed"] for record in records) else " Not every test passed in this run."
    return (
        "Processes that tests start count, and with them the Triton kernels, which run in Triton's interpreter here. "
        f"{number} lines of imports for type checkers and bodies of protocols are left out, and nothing else.{failed}"
    )


def made_by(records: list[dict[str, Any]]) -> str:
    """The commands behind some records, and the code they ran on, as Markdown."""
    lines = [f"`{record['command']}`, code {', '.join(commit[:12] for commit in record['code'])}" for record in records]
    return "  \n".join(lines)

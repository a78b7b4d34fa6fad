"""The evidence behind the preset `laptop` as tables, computed from records: `python -m mambaad.study.own_parts`.

The records are written by `own_parts_ablation.py`, `own_parts_training.py`, `own_parts_defaults.py` and
`own_parts_unseen.py` in `scripts`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mambaad.study.published_numbers import repository_root
from mambaad.study.table_html import signed

FOLDER, DEFAULTS, TRAINING, UNSEEN = "own_parts", "defaults", "training", "unseen"
METRICS = {"mad": "mAD", "pixel_aupro": "AU-PRO"}
COLUMNS = ["category", "seed", "reading", *METRICS]
PRESET, BANK, NETWORK = "cosine + euclidean + 4 × bank 256", "bank 256", "cosine"
"""The reading that the preset takes, the one it has to beat, and the network's published one."""


def measured(folder: str | Path) -> pd.DataFrame:
    """One line per record and reading: category, seed, reading, metrics in percent.  Empty without records."""
    lines: list[dict[str, Any]] = []
    for path in sorted(Path(folder).glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        for reading, values in record["metrics"].items():
            own = {metric: values[metric] for metric in METRICS}
            lines.append({"category": record["category"], "seed": record["seed"], "reading": reading, **own})
    return pd.DataFrame(lines, columns=COLUMNS)


def page(folder: str | Path) -> str:
    """The tables in Markdown: every reading, the preset against the bank, other trainings, calls without any option."""
    frame = measured(folder)
    if frame.empty:
        return "No records yet: `python scripts/own_parts_ablation.py --help`.\n"
    parts = [_readings(frame)]
    if {PRESET, BANK} <= set(frame["reading"]):
        parts.append(_against_the_bank(frame))
    if BANK in set(frame["reading"]) and frame["category"].nunique() > 1:
        parts.append(_chosen_on_the_others(frame))
    if trained := _trainings(frame, Path(folder, TRAINING)):
        parts.append(trained)
    unseen = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path(folder, UNSEEN).glob("*.json"))]
    if unseen:
        parts.append(_on_unseen_surfaces(unseen))
    defaults = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path(folder, DEFAULTS).glob("*.json"))]
    if defaults:
        parts.append(_calls(defaults))
    return "\n".join(parts)


def _readings(frame: pd.DataFrame) -> str:
    """A row per reading, a column per category: means over seeds, in whole points, since seeds differ by points."""
    categories = list(dict.fromkeys(frame["category"]))
    seeds = frame.groupby("category")["seed"].nunique()
    alike = seeds.nunique() == 1
    head = ["map", *(name if alike else f"{name} (seeds: {seeds[name]})" for name in categories)]
    if len(categories) > 1:
        head.append("mean")
    rows = []
    for reading in dict.fromkeys(frame["reading"]):
        means = frame[frame["reading"] == reading].groupby("category")[list(METRICS)].mean()
        cells = [_pair(means.loc[name]) for name in categories]
        if len(categories) > 1:
            cells.append(_pair(means.mean()))
        rows.append([f"**{reading}** (the preset)" if reading == PRESET else reading, *cells])
    means = f", means over {seeds.iloc[0]} seeds" if alike and seeds.iloc[0] > 1 else ""
    return f"mAD / AU-PRO in percent, protocol `exact`{means}:\n\n{_table(head, rows)}"


def _pair(values: pd.Series) -> str:
    return "\u00a0/\u00a0".join(f"{values[metric]:.0f}" for metric in METRICS)  # on one line


def _against_the_bank(frame: pd.DataFrame) -> str:
    """Paired by seed: how much better the preset's map is than the bank's alone."""
    wide = frame.pivot(index=["category", "seed"], columns="reading", values=list(METRICS))
    rows = []
    for category, own in wide.groupby("category", sort=False):
        cells = []
        for metric in METRICS:
            cells.append(_spread(list(own[metric][PRESET] - own[metric][BANK])))
        rows.append([str(category), str(len(own)), *cells])
    counts = [f"in {(wide[metric][PRESET] > wide[metric][BANK]).sum()} in {name}" for metric, name in METRICS.items()]
    return (
        "The preset minus the bank alone at 256 pixels, in points: mean over seeds, and the lowest and highest. "
        f"Of {len(wide)} pairs of a category and a seed it is ahead {' and '.join(counts)}.\n\n"
        f"{_table(['category', 'seeds', *METRICS.values()], rows)}"
    )


def _chosen_on_the_others(frame: pd.DataFrame) -> str:
    """What the choice of a map is worth on a category that had no part in it: for each category, the map whose mean mAD
    on the others is highest, against the bank alone."""
    means = {metric: frame.pivot_table(index="reading", columns="category", values=metric) for metric in METRICS}
    rows, ahead = [], dict.fromkeys(METRICS.values(), 0)
    for category in dict.fromkeys(frame["category"]):
        chosen = str(means["mad"].drop(columns=category).mean(axis=1).idxmax())
        gains = [values.loc[chosen, category] - values.loc[BANK, category] for values in means.values()]
        rows.append([category, chosen, *(signed(gain, 1) for gain in gains)])
        for name, gain in zip(ahead, gains, strict=True):
            ahead[name] += gain > 0
    counts = " and ".join(f"{number} of {len(rows)} in {name}" for name, number in ahead.items())
    table = _table(["category", "map chosen without it", *METRICS.values()], rows)
    return (
        "The preset's map was chosen with these categories. To see what such a choice is worth elsewhere, each "
        "category gets the map that is best in mean mAD on the *other* ones; minus the bank alone, in points, mean "
        f"over seeds. It is ahead in {counts}.\n\n{table}"
    )


def _trainings(frame: pd.DataFrame, folder: Path) -> str:
    """A row per change of the network's training, paired by seed with the training as it is.  Empty without records."""
    usual = frame.set_index(["category", "seed", "reading"])["mad"]
    gains: dict[str, dict[tuple[str, str], list[float]]] = {}
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        for change, done in record["changes"].items():
            for reading, values in done["metrics"].items():
                gain = values["mad"] - usual[record["category"], record["seed"], reading]
                gains.setdefault(change, {}).setdefault((record["category"], reading), []).append(gain)
    if not gains:
        return ""
    maps = {NETWORK: "network alone", PRESET: "preset's map"}
    categories = list(dict.fromkeys(category for own in gains.values() for category, _ in own))
    columns = [(category, reading) for category in categories for reading in maps]
    rows = [[change, *(_spread(own.get(column, [])) for column in columns)] for change, own in gains.items()]
    head = ["training", *(f"{category}, {maps[reading]}" for category, reading in columns)]
    numbers = sorted({len(values) for own in gains.values() for values in own.values()})
    return (
        "Another training of the network, one setting changed at a time, minus the preset's: points of mAD, mean over "
        f"{' or '.join(map(str, numbers))} seeds (lowest to highest), once of the map `{NETWORK}` of the network alone "
        f"and once of the preset's.\n\n{_table(head, rows)}"
    )


WITHOUT, BANK_ALONE = "no option", "memory bank alone"
"""Recipes of the scripts: `train` as it is, and what it has to beat."""


def _on_unseen_surfaces(records: Sequence[dict[str, Any]]) -> str:
    """A row per surface and recipe, paired by seed with the bank; mAD and AU-PRO in whole points as elsewhere."""
    rows, ahead, pairs = [], dict.fromkeys(METRICS, 0), 0
    for record in records:
        bank = record["recipes"].get(BANK_ALONE, {})
        for name, calls in record["recipes"].items():
            means = pd.Series({m: sum(call["metrics"][m] for call in calls.values()) / len(calls) for m in METRICS})
            shared = [] if name == BANK_ALONE else sorted(calls.keys() & bank.keys())
            gains = {m: [calls[s]["metrics"][m] - bank[s]["metrics"][m] for s in shared] for m in METRICS}
            rows.append([record["category"], name, str(len(calls)), _pair(means), *map(_spread, gains.values())])
            if name == WITHOUT:
                pairs += len(shared)
                for metric in METRICS:
                    ahead[metric] += sum(gain > 0 for gain in gains[metric])
    counts = " and ".join(f"in {ahead[metric]} in {name}" for metric, name in METRICS.items())
    head = ["surface", "`mambaad train`", "seeds", "mAD / AU-PRO", *(f"{m}, minus the bank" for m in METRICS.values())]
    return (
        "On surfaces that had no part in choosing the preset: real photographs, of which scratches, stains, foreign "
        "and worn spots were drawn on the part that is tested (`scripts/own_parts_unseen.py`, fixed before its first "
        "training). The last two columns are points, mean over seeds (lowest to highest). Of "
        f"{pairs} pairs of a surface and a seed the call without any option is ahead of the bank {counts}.\n\n"
        f"{_table(head, rows)}"
    )


def _spread(values: Sequence[float]) -> str:
    """Mean (lowest to highest), in points; a single value in whole points, as it has no spread; a dash for none."""
    if not values:
        return "–"
    if len(values) == 1:
        return signed(values[0], 0)
    mean, low, high = (signed(value, 1) for value in (sum(values) / len(values), min(values), max(values)))
    return f"{mean} ({low} to {high})"


SAID = {"recipe of version 0.1's first README": "before the preset: embedded encoder, 300 steps"}
"""What a recipe of `scripts/own_parts_defaults.py` is called on the page, where its name says nothing to a reader."""


def _calls(records: Sequence[dict[str, Any]]) -> str:
    """One call of `mambaad train` each: threads, minutes and metrics, one seed; no minutes beside other work."""
    rows = [
        [
            record["category"],
            SAID.get(name, name),
            str(done["environment"]["threads"]),
            f"{done['seconds'] / 60:.1f}" if done["seconds"] else "–",
            *(f"{done['metrics'][metric]:.0f}" for metric in ("image_auroc", "pixel_auroc", *METRICS)),
        ]
        for record in records
        for name, done in record["recipes"].items()
    ]
    head = ["category", "`mambaad train`", "threads", "minutes", "image AU-ROC", "pixel AU-ROC", *METRICS.values()]
    devices = {done["environment"]["device"] for record in records for done in record["recipes"].values()}
    where = " and ".join(sorted(devices))
    return (
        f"Whole calls, one seed each, on {where}, from start to the last file (–: made beside other work):"
        f"\n\n{_table(head, rows)}"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)) + "\n"


if __name__ == "__main__":
    print(page(repository_root() / "results" / FOLDER), end="")

"""The runs that were measured while they learned, as a table and a figure."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML

from mambaad.study.evidence import curves, protocol
from mambaad.study.evidence.carry_out import recorded
from mambaad.study.evidence.report import in_points
from mambaad.study.page_figures import BLUE, GREEN, GREY, ORANGE, PINK, SKY, WIDTH, plot, style


def table(results: str | Path) -> pd.DataFrame:
    """One line per network: mAD of its last step and of its best one on the test images, mean over seeds."""
    lines = []
    for watched in curves.CURVES:
        measured = [curves.mad(record) for record in recorded(watched, results).values()]
        if not measured:
            continue
        last = [curve[max(curve)] for curve in measured]
        best = [max(curve.values()) for curve in measured]
        flattery = np.subtract(best, last)
        lines.append(
            {
                "network": watched.name,
                "n": len(measured),
                "last": f"{np.mean(last):.1f}",
                "best on test": f"{np.mean(best):.1f}",
                "best minus last": f"{np.mean(flattery):.1f}",
                "by seed": ", ".join(f"{value:.1f}" for value in flattery),
                "best step": ", ".join(str(curves.best_step(curve)) for curve in measured),
            }
        )
    return pd.DataFrame(lines)


def longer(results: str | Path) -> str:
    """What four times the steps bring, as a sentence: last steps, seed by seed, against those of the protocol's main
    runs.  Empty where no seed has both."""
    long, usual = recorded(curves.CURVES[0], results), recorded(protocol.base_row(), results)
    both = [seed for seed in long if seed in usual]
    if not both:
        return ""
    ends = [curves.mad(long[seed])[curves.LENGTH] for seed in both]
    gains = np.subtract(ends, [usual[seed]["metrics"]["exact"]["mean"]["mad"] for seed in both])
    return (
        f"Four times the steps change mAD by {in_points(float(np.mean(gains)))} points (by seed "
        f"{', '.join(map(in_points, gains))}; n = {len(both)}), against the main runs with the same seeds."
    )


def distance(results: str | Path) -> str:
    """RD4AD minus MambaAD, both with ResNet18, after the usual and after four times the steps, as a sentence: the seeds
    that all four runs have.  Empty where there is none."""
    ours, theirs = curves.RESNET18_METHODS
    short = {row.name: recorded(row, results) for row in protocol.rows(protocol.METHODS_RESNET18)}
    long = [recorded(curves.with_resnet18(name), results) for name in (ours, theirs)]
    both = [seed for seed in long[0] if seed in long[1] and seed in short[ours] and seed in short[theirs]]
    if not both:
        return ""
    ends = np.array([[curves.mad(found[seed])[curves.LENGTH] for seed in both] for found in long])
    starts = np.array(
        [[short[name][seed]["metrics"]["exact"]["mean"]["mad"] for seed in both] for name in (ours, theirs)]
    )
    (ours_start, theirs_start), (ours_end, theirs_end) = starts.mean(axis=1), ends.mean(axis=1)
    seeds = f"seed {both[0]} alone"
    if len(both) > 1:
        by_seed = [", ".join(map(in_points, values[1] - values[0])) for values in (starts, ends)]
        seeds = f"by seed {by_seed[0]} and {by_seed[1]}; n\xa0=\xa0{len(both)}"
    return (
        f"With ResNet18, {theirs} minus {ours} is {in_points(theirs_start - ours_start)} points of mAD after "
        f"{protocol.TRAIN.steps} steps and {in_points(theirs_end - ours_end)} after {curves.LENGTH} ({ours} "
        f"{ours_start:.1f} and {ours_end:.1f}, {theirs} {theirs_start:.1f} and {theirs_end:.1f}; {seeds})."
    )


def figure(results: str | Path) -> HTML | None:
    """mAD against the step, one line per run; a ring at each run's best step. None where nothing is recorded."""
    rows = [(watched, recorded(watched, results)) for watched in curves.CURVES]
    if not any(found for _, found in rows):
        return None
    with style():
        drawing, ax = plt.subplots(figsize=(WIDTH, 5))
        for (watched, records_of), colour in zip(rows, (ORANGE, SKY, GREEN, BLUE, PINK, GREY), strict=True):
            for number, record in enumerate(records_of.values()):
                curve = curves.mad(record)
                best = curves.best_step(curve)
                ax.plot(list(curve), list(curve.values()), color=colour, label="" if number else watched.name)
                ax.plot(best, curve[best], "o", color=colour, markerfacecolor="none", markersize=8)
        ax.set_xlabel("step")
        ax.set_ylabel("mAD (%)")
        drawing.legend(loc="outside lower left", ncols=1)
    shown = [watched.name for watched, found in rows if found]
    return plot(
        drawing,
        alt=f"mAD on the test images against the training step, for {'; '.join(shown)}.",
        caption="mAD on the test images while the network learns; one line per seed, a ring at its best step.",
    )

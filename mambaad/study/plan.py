"""The study: which run stands behind each row of each table.  Paper: section 4, tables 1 to 7.

A `Row` carries the paper's labels, the paper's network (for its parameter and FLOP counts) and the run that a
profile puts behind it. Rows with equal settings share one run: the run's hash is its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mambaad.config import METHOD_CONFIGS, MethodConfig, ModelConfig, RunConfig
from mambaad.data.datasets.catalog import DATASETS
from mambaad.study.profiles import (
    BACKBONES,
    PROFILES,
    SubsetOptions,
    paper_base,
    quick_base,
    quick_methods,
    run_in,
)
from mambaad.study.tables_spec import MEASURED_TITLES, TABLES, Table, TableRow


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    labels: Mapping[str, str]
    """The paper's row labels, named as in `results/paper`."""
    model: ModelConfig | MethodConfig
    """The network of the row, at the paper's size: what is counted in tables 3, 4 and 6."""
    run: RunConfig | None
    """The run of this profile; None if it is not run."""
    not_run: str = ""
    """Why not, for readers."""
    in_paper: bool = True
    """False for rows that a profile adds."""


def rows(table: Table, profile: str, subset: SubsetOptions | None = None) -> list[Row]:
    """The rows of one table, in the paper's order; rows that a profile adds come last.

    Args:
        table: one of `TABLES`.
        profile: one of `PROFILES`.
        subset: needed by the profile "subset", and by no other.

    Raises:
        ValueError: unknown profile, or `subset` missing or not wanted.
    """
    base = main_run(profile, subset)
    if profile == "paper":
        own = [row for row in table.rows if row.method == "mambaad"]
        others = [_counted_row(row) for row in table.rows if row.method != "mambaad"]
        return [Row(row.labels, _paper_run(row).model, _paper_run(row)) for row in own] + others
    found = [_small_row(table, row, profile, base) for row in table.rows if row.method == "mambaad"]
    found += [_counted_row(row) for row in table.rows if row.method != "mambaad"]
    if table.rows_are_datasets:
        labels = {"dataset": _paper_name(base), "category": _mean_name(base), "method": "MambaAD"}
        found.append(Row(labels, base.model, base, in_paper=False))
        if profile == "quick":
            found += [
                Row({**labels, "method": MEASURED_TITLES[method]}, run.model, run, in_paper=False)
                for method, run in quick_methods().items()
            ]
    encoders = {row.backbone for row in table.rows if row.backbone}
    if encoders and not any(_is_paper_backbone(base, name) for name in encoders):
        found += _rows_of_own_encoder(table, base)
    return found


def runs(
    profile: str, tables: Iterable[Table] = tuple(TABLES.values()), subset: SubsetOptions | None = None
) -> dict[str, RunConfig]:
    """The runs behind some tables by their hash, each once, in order of first use."""
    found: dict[str, RunConfig] = {}
    for table in tables:
        for row in rows(table, profile, subset):
            if row.run is not None:
                found.setdefault(row.run.hash, row.run)
    return found


def main_run(profile: str, subset: SubsetOptions | None = None) -> RunConfig:
    """The run of the main model: full LSS module, hilbert scan, 8 directions (paper profile: on MVTec-AD)."""
    if profile not in PROFILES:
        raise ValueError(f"no profile {profile!r}; there are {', '.join(PROFILES)}")
    if (profile == "subset") != (subset is not None):
        need = "needs" if profile == "subset" else "takes no"
        raise ValueError(f"profile {profile!r} {need} subset options (mambaad.study.profiles.SubsetOptions)")
    if profile == "paper":
        return paper_base()
    return quick_base() if subset is None else subset.base()


def _paper_run(row: TableRow) -> RunConfig:
    return run_in(paper_base(row.dataset, row.backbone or "ResNet34"), row.changes)


def _counted_row(row: TableRow) -> Row:
    """Another method's row, for its counts as published; its accuracy is measured in the protocol real_v1."""
    config = METHOD_CONFIGS[row.method]()
    return Row(row.labels, config, None, "trained on real images at reduced scale, see table 1")


def _small_row(table: Table, row: TableRow, profile: str, base: RunConfig) -> Row:
    """A row in the quick or the subset profile: on that profile's one data set, with its one encoder."""
    model = _paper_run(row).model
    if table.rows_are_datasets:
        return Row(row.labels, model, None, f"its images are not part of the {profile} profile")
    if row.backbone and not _is_paper_backbone(base, row.backbone):
        return Row(row.labels, model, None, _no_backbone(row.backbone, profile))
    return Row(row.labels, model, run_in(base, row.changes))


def _rows_of_own_encoder(table: Table, base: RunConfig) -> list[Row]:
    """Each change that a table makes besides its encoders, once, with the encoder of the profile."""
    name = "embedded" if base.encoder_weights == "embedded" else base.model.backbone
    by_labels = {row.labels["decoder_depth"]: row for row in table.rows}
    found = []
    for depth, row in sorted(by_labels.items()):
        run = run_in(base, row.changes)
        labels = {"backbone": f"{name} (not in paper)", "decoder_depth": depth}
        found.append(Row(labels, run.model, run, in_paper=False))
    return found


def _paper_name(run: RunConfig) -> str:
    """The paper's name for a run's data set, so that its categories stand beside the paper's; else its own."""
    return DATASETS[run.data.dataset].paper_name or run.data.dataset


def _mean_name(run: RunConfig) -> str:
    """What a small profile's mean is over: never to be mistaken for the paper's mean over all categories."""
    if run.data.dataset == "synthetic":
        return "mean"
    return f"mean of {', '.join(run.data.categories) or 'the subset'}"


def _is_paper_backbone(run: RunConfig, backbone: str) -> bool:
    """Whether a run's encoder is one of table 4's; the embedded encoder is not, whatever network it borrows."""
    return run.encoder_weights != "embedded" and run.model.backbone == BACKBONES[backbone][0]


def _no_backbone(backbone: str, profile: str) -> str:
    if profile == "subset":
        return f"the subset was given another encoder than {backbone}"
    if backbone in ("ResNet50", "WideResNet50"):
        return f"{backbone} is too large for the quick profile on a CPU"
    return f"needs the ImageNet weights of {backbone}, and the quick profile downloads nothing"

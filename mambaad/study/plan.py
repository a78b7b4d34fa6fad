"""The study: which run stands behind each row of each table.  Paper: section 4, tables 1 to 7.

A `Row` carries the paper's labels, the paper's network (for its parameter and FLOP counts) and the run that a
profile puts behind it. Rows with equal settings share one run: the run's hash is its name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mambaad.config import SCAN_METHODS, ModelConfig, RunConfig
from mambaad.study.profiles import BACKBONES, PAPER_DATASETS, PROFILES, SubsetOptions, paper_base, quick_base, run_in

__all__ = ["PROFILES", "TABLES", "Row", "SubsetOptions", "main_run", "rows", "runs"]

TABLES = (
    "table_1_main_results",
    "table_2_incremental",
    "table_3_lss_branches",
    "table_4_backbone_depth",
    "table_5_scan_methods",
    "table_6_efficiency",
    "table_7_lss_designs",
)

# Table 5, rows 1 to 12: directions of sweep, scan, zorder, zigzag, hilbert. Rows 8 to 12 are hybrids: how the eight
# routes are shared out among the methods is an interpretation, the published code has no hybrids.
TABLE_5 = (
    (8, 0, 0, 0, 0),
    (0, 8, 0, 0, 0),
    (0, 0, 8, 0, 0),
    (0, 0, 0, 8, 0),
    (0, 0, 0, 0, 2),
    (0, 0, 0, 0, 4),
    (0, 0, 0, 0, 8),
    (0, 0, 0, 4, 4),
    (0, 0, 4, 0, 4),
    (0, 4, 0, 0, 4),
    (4, 0, 0, 0, 4),
    (0, 2, 2, 2, 2),
)
TABLE_4 = (
    ("ResNet18", (2, 2, 2, 2)),
    ("ResNet18", (3, 4, 6, 3)),
    ("ResNet34", (2, 2, 2, 2)),
    ("ResNet34", (2, 9, 2, 2)),
    ("ResNet34", (3, 4, 6, 3)),
    ("ResNet50", (3, 4, 6, 3)),
    ("WideResNet50", (3, 4, 6, 3)),
)
THREE_KERNEL_SETS = ((3, 5), (5, 7), (3, 5, 7))
ALL_KERNEL_SETS = ((1, 3), (3, 5), (5, 7), (1, 3, 5), (3, 5, 7), (1, 3, 5, 7))
# Table 7: HSS blocks per LSS module, skip, local convolution, kernel sets
TABLE_7 = (
    ("1", True, "dwconv", ALL_KERNEL_SETS),
    ("1", True, "dwconv_1x1", THREE_KERNEL_SETS),
    ("1", False, "dwconv", THREE_KERNEL_SETS),
    ("1", False, "dwconv_1x1", THREE_KERNEL_SETS),
    ("2_and_3", True, "dwconv", THREE_KERNEL_SETS),
    ("2_and_3", True, "dwconv_1x1", THREE_KERNEL_SETS),
)


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    table: str
    labels: dict[str, str]
    """The paper's row labels, named as in `results/paper`."""
    model: ModelConfig
    """The network of the row, at the paper's size: what is counted in tables 3, 4 and 6."""
    run: RunConfig | None
    """The run of this profile; None if it is not run."""
    not_run: str = ""
    """Why not, for readers."""
    in_paper: bool = True
    """False for rows that a profile adds."""


def rows(table: str, profile: str, subset: SubsetOptions | None = None) -> list[Row]:
    """The rows of one table, in the paper's order; rows that a profile adds come last.

    Args:
        table: one of `TABLES`.
        profile: one of `PROFILES`.
        subset: needed by the profile "subset", and by no other.

    Raises:
        ValueError: unknown table or profile, or `subset` missing or not wanted.
    """
    if table not in TABLES:
        raise ValueError(f"no table {table!r}; there are {', '.join(TABLES)}")
    _check_profile(profile, subset)
    if profile == "paper":
        return [
            Row(table, labels, _paper_model(labels, changes), run_in(_paper_base(labels, loader), changes))
            for labels, changes, loader in _paper_rows(table)
        ]
    return _small_rows(table, profile, main_run(profile, subset))


def runs(profile: str, tables: Iterable[str] = TABLES, subset: SubsetOptions | None = None) -> dict[str, RunConfig]:
    """The runs behind some tables by their hash, each once, in order of first use."""
    found: dict[str, RunConfig] = {}
    for table in tables:
        for row in rows(table, profile, subset):
            if row.run is not None:
                found.setdefault(row.run.hash, row.run)
    return found


def main_run(profile: str, subset: SubsetOptions | None = None) -> RunConfig:
    """The run of the main model: full LSS module, hilbert scan, 8 directions (paper profile: on MVTec-AD)."""
    _check_profile(profile, subset)
    if profile == "paper":
        return paper_base()
    return quick_base() if subset is None else subset.base()


def _check_profile(profile: str, subset: SubsetOptions | None) -> None:
    if profile not in PROFILES:
        raise ValueError(f"no profile {profile!r}; there are {', '.join(PROFILES)}")
    if (profile == "subset") != (subset is not None):
        need = "needs" if profile == "subset" else "takes no"
        raise ValueError(f"profile {profile!r} {need} subset options (mambaad.study.profiles.SubsetOptions)")


def _paper_base(labels: Mapping[str, str], loader: str) -> RunConfig:
    return paper_base(loader, labels.get("backbone", "ResNet34"))


def _paper_model(labels: Mapping[str, str], changes: Mapping[str, Any]) -> ModelConfig:
    return dataclasses.replace(paper_base(backbone=labels.get("backbone", "ResNet34")).model, **changes)


def _small_rows(table: str, profile: str, base: RunConfig) -> list[Row]:
    """The quick and the subset profile: every row on one data set with one encoder."""
    found = []
    for labels, changes, _ in _paper_rows(table):
        run, not_run = None, ""
        backbone = labels.get("backbone")
        if table == "table_1_main_results":
            not_run = f"its images are not part of the {profile} profile"
        elif backbone and not _is_paper_backbone(base, backbone):
            not_run = _no_backbone(backbone, profile)
        else:
            run = run_in(base, changes)
        found.append(Row(table, labels, _paper_model(labels, changes), run, not_run))
    if table == "table_1_main_results":
        labels = {"dataset": _paper_name(base), "category": _mean_name(base), "method": "MambaAD"}
        found.append(Row(table, labels, base.model, base, in_paper=False))
    if table == "table_4_backbone_depth" and not any(_is_paper_backbone(base, name) for name in BACKBONES):
        name = "embedded" if base.encoder_weights == "embedded" else base.model.backbone
        for depths in sorted({depths for _, depths in TABLE_4}):
            run = run_in(base, {"depths": depths})
            labels = {"backbone": f"{name} (not in paper)", "decoder_depth": _dashes(depths)}
            found.append(Row(table, labels, run.model, run, in_paper=False))
    return found


def _paper_name(run: RunConfig) -> str:
    """The paper's name for a run's data set, so that its categories stand beside the paper's; else the loader's."""
    names = [name for name, loaders in PAPER_DATASETS.items() if run.data.dataset in loaders]
    return names[0] if names else run.data.dataset


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


def _paper_rows(table: str) -> Iterator[tuple[dict[str, str], dict[str, Any], str]]:
    """Labels, changes to the main network and the loader's name, for every row that MambaAD has in a table."""
    if table == "table_1_main_results":
        for dataset, loaders in PAPER_DATASETS.items():
            for split, loader in enumerate(loaders):
                category = "mean" if len(loaders) == 1 else str(split)
                yield {"dataset": dataset, "category": category, "method": "MambaAD"}, {}, loader
    elif table == "table_2_incremental":
        plain = {"branches": "global", "scan": "sweep", "directions": 2}
        steps = [("0", "0", plain), ("1", "0", {"scan": "sweep", "directions": 2}), ("1", "1", {})]
        for lss, hss, changes in steps:
            for dataset in ("mvtec", "visa"):
                labels = {"basic_mamba": "1", "lss": lss, "hss": hss, "dataset": dataset}
                yield labels, changes, PAPER_DATASETS[dataset][0]
    elif table == "table_3_lss_branches":
        for method, branches in (("local", "local"), ("global", "global"), ("local_global", "both")):
            for dataset in ("mvtec", "visa"):
                labels = {"method": method, "dataset": dataset}
                yield labels, {"branches": branches}, PAPER_DATASETS[dataset][0]
    elif table == "table_4_backbone_depth":
        for backbone, depths in TABLE_4:
            yield {"backbone": backbone, "decoder_depth": _dashes(depths)}, {"depths": depths}, "mvtec_ad"
    elif table == "table_5_scan_methods":
        for index, shares in enumerate(TABLE_5, start=1):
            labels = {"index": str(index), **{m: str(n) for m, n in zip(SCAN_METHODS, shares, strict=True)}}
            yield labels, scan_changes(shares), "mvtec_ad"
    elif table == "table_6_efficiency":
        yield {"method": "MambaAD"}, {}, "mvtec_ad"
    else:
        for blocks, skip, local_conv, kernel_sets in TABLE_7:
            for kernels in kernel_sets:
                labels = {"hss_blocks": blocks, "skip": "yes" if skip else "no", "local_conv": local_conv}
                changes = {
                    "hss_per_lss": 1 if blocks == "1" else None,
                    "skip": skip,
                    "local_conv": local_conv,
                    "local_kernels": kernels,
                }
                yield {**labels, "kernel_sizes": _dashes(kernels)}, changes, "mvtec_ad"


def scan_changes(shares: Iterable[int]) -> dict[str, Any]:
    """Directions for each of `SCAN_METHODS` -> the network's scan and directions."""
    used = tuple((method, n) for method, n in zip(SCAN_METHODS, shares, strict=True) if n)
    return {"scan": used[0][0] if len(used) == 1 else used, "directions": sum(n for _, n in used)}


def _dashes(numbers: Iterable[int]) -> str:
    return "-".join(map(str, numbers))

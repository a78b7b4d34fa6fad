"""Protocol real_v1: every run of the evidence on real images, written down before the first was made.

The text with the reasons is results/protocols/real_v1.md; a test holds the two together.  One model for five real
categories at 128 pixels; rows differ from the base run in what the paper's table varies, and in nothing else.
Seeds are paired: every row of a group is run with the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from mambaad.config import (
    DataConfig,
    ModelConfig,
    RunConfig,
    TrainConfig,
    for_encoder,
    published_recipe,
    small_form,
)
from mambaad.model.encoder_weights import named_encoder
from mambaad.study import plan
from mambaad.study.tables_spec import TABLE_1, TABLE_2, TABLE_3, TABLE_4, TABLE_5, TABLE_7, Table

NAME = "real_v1"
SEEDS = (0, 1, 2, 3, 4)
SIDE = 128
DEPTHS = (2, 2, 2, 2)
DATA = DataConfig(dataset="real_v1", side=SIDE, index_hash="8f70e66536eb")
TRAIN = TrainConfig(steps=600, batch_size=8, lr=2.5e-3, warmup_steps=20, decay_at=0.8, decay=0.1, clip_norm=5.0)
REPLICATES = 200
"""Resampled test sets on which every run is measured besides the real one."""
RESAMPLE_SEED = 20260
BLOCKS = {"glassfiber": 5}
"""Images drawn together where a category's photographs come in series of nearly equal ones; elsewhere 1."""
PRIMARY = "mad"
"""The outcome that verdicts are about: the mean of the seven metrics, exact protocol."""

RESNET18 = "resnet18_imagenet_stride16.safetensors@b266fd631121"
"""Name of local weights, as a run names them: a file that is not part of the project."""
MOBILENETV1 = "mobilenetv1_100_imagenet_stride16.safetensors@34dfd1d4dcfd"
MOBILENETV2 = "mobilenetv2_100_imagenet_stride16.safetensors@94f55360c02a"


@dataclass(frozen=True)
class Row:
    """One row of a group: a network, run once for each seed."""

    group: str
    """Stem of the paper's table, `methods` or `curves`."""
    name: str
    base: RunConfig
    """Its run, seed aside."""
    in_paper: bool = True
    seeds: tuple[int, ...] = SEEDS

    def run(self, seed: int) -> RunConfig:
        """The row's run of one seed."""
        return replace(self.base, train=replace(self.base.train, seed=seed))


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper as a sign: row minus reference."""

    group: str
    row: str
    reference: str
    sign: int
    caveat: str = ""
    """What was seen after the runs that a reader of the verdict has to know; it changes no verdict."""


def base(encoder: str = "imagenet_lite0") -> RunConfig:
    """The main model under this protocol: EfficientNet-Lite0, "resnet18", "mobilenetv1" or "mobilenetv2"."""
    as_trained = {"backbone_kwargs": {"pad_type": "same"}, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    local: dict[str, tuple[str, dict[str, Any]]] = {
        "resnet18": (RESNET18, {"backbone": "resnet18"}),
        "mobilenetv1": (MOBILENETV1, {"backbone": "mobilenetv1_100", **as_trained}),
        "mobilenetv2": (MOBILENETV2, {"backbone": "mobilenetv2_100", **as_trained}),
    }
    weights, changes = local.get(encoder, (encoder, named_encoder(encoder) or {}))
    return RunConfig(model=ModelConfig(depths=DEPTHS, **changes), encoder_weights=weights, data=DATA, train=TRAIN)


def base_row() -> Row:
    """The main row, the paper's own choice: the reference of table 5."""
    return next(row for row in rows(TABLE_5.name) if row.name == REFERENCES[TABLE_5.name])


VARIED = ("branches", "scan", "directions", "hss_per_lss", "skip", "local_conv", "local_kernels")
"""What the rows of tables 2, 3, 5 and 7 change in the network."""
TABLE_7_ROWS = (
    "M 1, DW {5,7}",
    "M 1, DW {1,3,5,7}",
    "M 1, 1×1-DW-1×1 {5,7}",
    "M 1, 1×1-DW-1×1 {5,7}, no skip",
    "M 1, DW {5,7}, no skip",
    "M 2, 3, DW {5,7}",
    "M 2, 3, 1×1-DW-1×1 {3,5}",
    "M 2, 3, 1×1-DW-1×1 {5,7}",
    "M 2, 3, 1×1-DW-1×1 {3,5,7}",
)


def rows(group: str) -> list[Row]:
    """The rows of one group, in the paper's order.  Raises ValueError for an unknown group."""
    if group not in GROUPS:
        raise ValueError(f"no group {group!r} in the protocol {NAME}; there are {', '.join(GROUPS)}")
    return GROUPS[group]()


def _of_table(table: Table, only: tuple[str, ...] = ()) -> list[Row]:
    """The distinct networks of a table, all or those named, with this protocol's encoder."""
    found: dict[str, Row] = {}
    for row in plan.rows(table, "paper"):
        name = table.row_name(row.labels).split(" (")[0]
        if name in only or not only:
            changes = {field: getattr(row.model, field) for field in VARIED}
            found.setdefault(name, Row(table.name, name, _changed(base(), changes)))
    return list(found.values())


def _table_1() -> list[Row]:
    return [Row(TABLE_1.name, "MambaAD", base("resnet18"))]


def _table_4() -> list[Row]:
    group = TABLE_4.name
    found = [
        Row(group, f"ResNet18 [{_commas(depths)}]", _changed(base("resnet18"), {"depths": depths}))
        for depths in ((2, 2, 2, 2), (3, 4, 6, 3))
    ]
    found += [
        Row(group, f"EfficientNet-Lite0 [{_commas(depths)}]", _changed(base(), {"depths": depths}), in_paper=False)
        for depths in ((2, 2, 2, 2), (2, 9, 2, 2), (3, 4, 6, 3))
    ]
    for k in (2, 1):
        found.append(Row(group, f"MobileNetV{k} [{_commas(DEPTHS)}]", base(f"mobilenetv{k}"), in_paper=False))
    return found


METHODS = "methods"
"""The group that compares methods; its amendment is results/protocols/real_v1_methods.md."""
METHODS_RESNET18 = "methods_resnet18"
"""The same with another encoder; its amendment is results/protocols/real_v1_methods_resnet18.md."""
METHODS_MOBILENETV2 = "methods_mobilenetv2"
"""A third encoder, for the methods whose place changed with the second; the same amendment."""
METHODS_MOBILENETV1 = "methods_mobilenetv1"
"""A fourth one, wider than the second, for these methods; the same amendment."""
COMPARISONS = {
    METHODS: "EfficientNet-Lite0",
    METHODS_RESNET18: "ResNet18",
    METHODS_MOBILENETV2: "MobileNetV2",
    METHODS_MOBILENETV1: "MobileNetV1",
}
"""The groups that compare methods, and the encoder that all of a group's have."""


def _methods() -> list[Row]:
    """MambaAD's main row, and the other methods with the same encoder, images, steps and seeds."""
    main = base()
    found = _compared_methods(METHODS, main)
    changes, recipe = small_form("diad", SIDE)
    diad = for_encoder("diad", {**_encoder(main), **changes}, SIDE)
    return [
        *found[:-1],
        Row(METHODS, "DiAD, reduced", replace(main, model=diad, train=_as_long(recipe)), in_paper=False),
        found[-1],
    ]


def _compared_methods(group: str, main: RunConfig) -> list[Row]:
    """A run of MambaAD, and the methods that are compared with it, the memory bank last."""
    encoder = _encoder(main)
    found = [Row(group, "MambaAD", main)]
    for method, name in (("rd4ad", "RD4AD"), ("uniad", "UniAD"), ("simplenet", "SimpleNet"), ("destseg", "DeSTSeg")):
        recipe = published_recipe(method)
        train = _as_long(recipe)
        if method in ("rd4ad", "destseg"):  # in proportion to the batch: the benchmark's rule for RD4AD and MambaAD
            train = replace(train, lr=recipe.lr * TRAIN.batch_size / recipe.batch_size)
        found.append(Row(group, name, replace(main, model=for_encoder(method, encoder, SIDE), train=train)))
    bank = replace(main, model=for_encoder("memory_bank", encoder, SIDE), train=published_recipe("memory_bank"))
    return [*found, Row(group, "memory bank", bank, in_paper=False)]


def _three_methods(group: str, main: RunConfig) -> list[Row]:
    return [row for row in _compared_methods(group, main) if row.name in ("MambaAD", "RD4AD", "memory bank")]


def _encoder(run: RunConfig) -> dict[str, Any]:
    return {name: getattr(run.model, name) for name in ("backbone", "backbone_kwargs", "mean", "std")}


def _as_long(recipe: TrainConfig) -> TrainConfig:
    """A method's recipe at the protocol's length."""
    return replace(recipe, steps=TRAIN.steps, batch_size=TRAIN.batch_size)


GROUPS: Mapping[str, Callable[[], list[Row]]] = {
    TABLE_5.name: partial(_of_table, TABLE_5),
    TABLE_2.name: partial(_of_table, TABLE_2),
    TABLE_3.name: partial(_of_table, TABLE_3),
    TABLE_1.name: _table_1,
    TABLE_4.name: _table_4,
    TABLE_7.name: partial(_of_table, TABLE_7, TABLE_7_ROWS),
    METHODS: _methods,
    METHODS_RESNET18: lambda: _compared_methods(METHODS_RESNET18, base("resnet18")),
    METHODS_MOBILENETV2: lambda: _three_methods(METHODS_MOBILENETV2, base("mobilenetv2")),
    METHODS_MOBILENETV1: lambda: _three_methods(METHODS_MOBILENETV1, base("mobilenetv1")),
}
"""In the order in which they are run: the most informative first."""

REFERENCES = {
    TABLE_5.name: "hilbert 8",
    TABLE_2.name: "+ LSS + HSS",
    TABLE_3.name: "local + global",
    TABLE_4.name: "ResNet18 [3,4,6,3]",
    TABLE_7.name: "M 2, 3, 1×1-DW-1×1 {5,7}",
    **dict.fromkeys(COMPARISONS, "MambaAD"),
}
"""The row that the paper proposes, which the others of its table are compared with."""
WITHIN_LITE0 = "EfficientNet-Lite0 [2,2,2,2]"
"""What the rows of table 4 with this encoder are compared with: two rows should differ in one thing."""


def references_of(group: str) -> list[str]:
    """The rows that others of a group are compared with: the paper's choice, and in table 4 one for each encoder."""
    found = [REFERENCES[group]] if group in REFERENCES else []
    return [*found, WITHIN_LITE0] if group == TABLE_4.name else found


def compared_with(group: str, reference: str) -> list[Row]:
    """The other rows of a group that have the reference's encoder.  Raises ValueError if the group has no such row."""
    found = {row.name: row for row in rows(group)}
    if reference not in found:
        raise ValueError(f"{group} has no row {reference!r}; there are {', '.join(found)}")
    encoder = found[reference].base.encoder_weights
    return [row for name, row in found.items() if name != reference and row.base.encoder_weights == encoder]


BARELY = "barely: its interval ends next to zero"  # another draw of the bootstrap can turn the verdict
CLAIMS = (
    *(
        Claim(TABLE_5.name, "hilbert 8", other, +1, caveat=BARELY if other == "scan 8" else "")
        for other in ("sweep 8", "scan 8", "zorder 8", "zigzag 8", "hilbert 2", "hilbert 4")
    ),
    *(
        Claim(TABLE_5.name, "hilbert 8", f"{other} 4 + hilbert 4", +1)
        for other in ("zigzag", "zorder", "scan", "sweep")
    ),
    Claim(TABLE_5.name, "hilbert 8", "scan 2 + zorder 2 + zigzag 2 + hilbert 2", +1),
    Claim(TABLE_2.name, "+ LSS", "Mamba decoder", +1),
    Claim(TABLE_2.name, "+ LSS + HSS", "+ LSS", +1),
    Claim(TABLE_3.name, "local + global", "local", +1),
    Claim(TABLE_3.name, "local + global", "global", +1),
    Claim(TABLE_4.name, "ResNet18 [3,4,6,3]", "ResNet18 [2,2,2,2]", +1),
    *(
        Claim(TABLE_7.name, "M 2, 3, 1×1-DW-1×1 {5,7}", other, +1)
        for other in TABLE_7_ROWS
        if other != "M 2, 3, 1×1-DW-1×1 {5,7}"
    ),
    *(Claim(METHODS, "MambaAD", other, +1) for other in ("RD4AD", "UniAD")),
    Claim(METHODS, "MambaAD", "SimpleNet", +1, caveat="against a training that failed"),
    Claim(METHODS, "MambaAD", "DeSTSeg", +1),
    Claim(METHODS, "MambaAD", "memory bank", +1),
    *(Claim(METHODS_RESNET18, "MambaAD", other, +1) for other in ("RD4AD", "UniAD")),
    Claim(METHODS_RESNET18, "MambaAD", "SimpleNet", +1, caveat="against a training that hardly began"),
    *(Claim(METHODS_RESNET18, "MambaAD", other, +1) for other in ("DeSTSeg", "memory bank")),
    *(
        Claim(group, "MambaAD", other, +1)
        for group in (METHODS_MOBILENETV2, METHODS_MOBILENETV1)
        for other in ("RD4AD", "memory bank")
    ),
)
"""What the paper says of its rows, as differences that this protocol can test, and comparisons with a memory bank."""


def queue() -> Iterator[tuple[Row, int, RunConfig]]:
    """Every run once, most informative first: group by group, and within a group seed by seed over all rows, so that
    an unfinished group holds complete sets of paired rows."""
    seen = set()
    for group in GROUPS:
        for seed in SEEDS:
            for row in rows(group):
                run = row.run(seed)
                if run.hash not in seen:
                    seen.add(run.hash)
                    yield row, seed, run


def _changed(run: RunConfig, changes: dict[str, Any]) -> RunConfig:
    return replace(run, model=replace(run.model, **changes))


def _commas(depths: tuple[int, ...]) -> str:
    return ",".join(map(str, depths))

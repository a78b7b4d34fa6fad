"""The study's plan: every row of the paper's tables once, equal settings one run, and what a run leaves behind."""

import dataclasses
from pathlib import Path
from typing import Any, Never

import pytest
import torch

from mambaad.baselines import build_method
from mambaad.config import (
    SCAN_METHODS,
    DataConfig,
    ModelConfig,
    RunConfig,
    TrainConfig,
    method_of,
    run_config_from_dict,
    to_dict,
)
from mambaad.data import DatasetError
from mambaad.engine import records
from mambaad.engine import run as runner
from mambaad.engine.execution import Execution
from mambaad.engine.run import execute
from mambaad.model import check_side
from mambaad.study import plan, published_numbers
from mambaad.study.profiles import (
    PROFILES,
    QUICK_DIAD_STEPS,
    QUICK_TRAIN,
    SubsetOptions,
    load_subset,
    quick_base,
    save_subset,
)
from mambaad.study.tables_spec import (
    TABLE_1,
    TABLE_2,
    TABLE_3,
    TABLE_4,
    TABLE_5,
    TABLE_6,
    TABLE_7,
    TABLES,
    Table,
)

SUBSET = SubsetOptions(categories=("bottle", "screw"), index_hash="0123456789ab")


def of_profile(profile: str) -> Any:
    return SUBSET if profile == "subset" else None


def row(table: Table, profile: str = "paper", **labels: Any) -> Any:
    """The one row that has these labels."""
    found = [r for r in plan.rows(table, profile, of_profile(profile)) if labels.items() <= r.labels.items()]
    assert len(found) == 1, found
    return found[0]


def network_of(run: RunConfig | None) -> ModelConfig:
    assert run is not None
    assert isinstance(run.model, ModelConfig)
    return run.model


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_every_row_of_the_paper_appears_exactly_once(table: Table, profile: str) -> None:
    columns = list(table.label_columns)
    frame = published_numbers.load(table.published)
    if table is TABLE_1:
        frame = frame[frame["method"] == "MambaAD"]  # the other methods' accuracies are shown as published
    if table is TABLE_1:
        frame = frame.assign(category="mean")
    printed = set(frame[columns].itertuples(index=False, name=None))
    rows = [r for r in plan.rows(table, profile, of_profile(profile)) if r.in_paper]
    if table is TABLE_1:
        splits = [r.labels["category"] for r in rows if r.labels["dataset"] == "coco"]
        assert splits == ["0", "1", "2", "3"]
        rows = [r for r in rows if r.labels["category"] == "mean"]
        printed = {key for key in printed if key[0] != "coco"}
    ours = [tuple(r.labels[c] for c in columns) for r in rows]
    assert len(ours) == len(set(ours))
    assert set(ours) == printed


def test_the_main_model_is_one_run_wherever_it_stands() -> None:
    rows = [
        row(TABLE_1, dataset="mvtec"),
        row(TABLE_2, hss="1", dataset="mvtec"),
        row(TABLE_3, method="local_global", dataset="mvtec"),
        row(TABLE_4, backbone="ResNet34", decoder_depth="3-4-6-3"),
        row(TABLE_5, index="7"),
        row(TABLE_6, method="MambaAD"),
        row(TABLE_7, hss_blocks="2_and_3", local_conv="dwconv_1x1", kernel_sizes="5-7"),
    ]
    defaults = RunConfig(data=DataConfig(dataset="mvtec_ad"))  # the defaults are the paper's
    assert {r.run.hash for r in rows} == {plan.main_run("paper").hash} == {defaults.hash}
    train = defaults.train
    assert (train.epochs, train.batch_size, train.lr, train.weight_decay) == (500, 16, 5e-3, 1e-4)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_hash_names_one_run_and_a_run_has_one_hash(profile: str) -> None:
    rows = [r for t in TABLES.values() for r in plan.rows(t, profile, of_profile(profile)) if r.run is not None]
    runs = plan.runs(profile, subset=of_profile(profile))
    assert all(r.run is not None and runs[r.run.hash] == r.run for r in rows)
    assert len({repr(run) for run in runs.values()}) == len(runs)
    assert len(runs) < len(rows)
    assert all(run_config_from_dict(to_dict(run)) == run for run in runs.values())


def test_number_of_runs() -> None:
    # MVTec-AD: main, 2 of table 2, 2 of table 3, 6 of table 4, 11 of table 5, 20 of table 7; VisA: the same 1 + 2 + 2;
    # Real-IAD, Uni-Medical, MVTec-3D and the four splits of COCO-AD: 7
    assert len(plan.runs("paper")) == (1 + 2 + 2 + 6 + 11 + 20) + 5 + 7
    # one data set; two more depths instead of table 4's encoders; six other methods
    assert len(plan.runs("quick")) == 1 + 2 + 2 + 2 + 11 + 20 + 6
    assert len(plan.runs("quick", [TABLE_6])) == 1


def test_scan_rows_follow_the_published_shares() -> None:
    frame = published_numbers.load("scan_methods").drop_duplicates("index").set_index("index")
    for r in plan.rows(TABLE_5, "quick"):
        shares = {m: int(frame.loc[r.labels["index"], m]) for m in SCAN_METHODS}
        model = network_of(r.run)
        assert dict(model.scan_methods) == {m: n for m, n in shares.items() if n}
        assert model.directions == sum(shares.values())


def test_design_rows_say_what_their_labels_say() -> None:
    for r in plan.rows(TABLE_7, "paper"):
        model = r.model
        assert isinstance(model, ModelConfig)
        assert "-".join(map(str, model.local_kernels)) == r.labels["kernel_sizes"]
        assert model.skip == (r.labels["skip"] == "yes")
        assert model.local_conv == r.labels["local_conv"]
        assert {s for d in model.depths for s in model.lss_sizes(d)} == (
            {1} if r.labels["hss_blocks"] == "1" else {2, 3}
        )


def test_table_2_and_table_3_have_different_global_networks() -> None:
    plain, branch = (
        row(TABLE_2, lss="0", dataset="visa"),
        row(TABLE_3, method="global", dataset="visa"),
    )
    assert (plain.model.scan, plain.model.directions) == ("sweep", 2)
    assert (branch.model.scan, branch.model.directions) == ("hilbert", 8)
    assert plain.model.branches == branch.model.branches == "global"


def test_quick_runs_everything_it_can_on_synthetic_images() -> None:
    for table in TABLES.values():
        for r in plan.rows(table, "quick"):
            if r.run is None:
                assert table in (TABLE_1, TABLE_4, TABLE_6)
                assert r.not_run
            else:
                assert r.run.data.dataset == "synthetic"
                assert r.run.encoder_weights == "embedded"
                if method_of(r.run.model) == "mambaad":
                    assert r.run.train == QUICK_TRAIN
                else:  # recipes of their own, for as many steps
                    longer = method_of(r.run.model) == "diad"  # it has an autoencoder to train first
                    assert r.run.train.steps == (QUICK_DIAD_STEPS if longer else QUICK_TRAIN.steps)
    depths = [network_of(r.run).depths for r in plan.rows(TABLE_4, "quick") if not r.in_paper]
    assert depths == [(2, 2, 2, 2), (2, 9, 2, 2), (3, 4, 6, 3)]


def test_every_quick_network_can_be_built() -> None:
    for run in plan.runs("quick").values():
        check_side(run.model, run.data.side, run.data.side)
        with torch.device("meta"):
            assert sum(p.numel() for p in build_method(run.model, "random").parameters()) > 0


def test_the_embedded_encoder_never_stands_for_a_paper_backbone() -> None:
    assert all(r.run is None for r in plan.rows(TABLE_4, "quick") if r.in_paper)
    own = SubsetOptions(encoder_weights="mine.safetensors", backbone="resnet18")
    rows = plan.rows(TABLE_4, "subset", own)
    assert [r.labels["decoder_depth"] for r in rows if r.run is not None] == ["2-2-2-2", "3-4-6-3"]
    assert all(r.in_paper for r in rows)


def test_subset_options_round_trip(tmp_path: Path) -> None:
    options = SubsetOptions(
        categories=("bottle",),
        encoder_weights="net.safetensors@0123456789ab",
        backbone="mobilenetv2_100",
        backbone_kwargs={"pad_type": "same"},
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        train=TrainConfig(epochs=3),
    )
    save_subset(options, tmp_path)
    assert load_subset(tmp_path).base() == options.base()
    assert load_subset(tmp_path).base().hash == options.base().hash
    assert options.base().model.mean == (0.5, 0.5, 0.5)
    other_files = dataclasses.replace(options, index_hash="other")
    assert other_files.base().hash != options.base().hash


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder_weights": "folder/net.pth", "backbone": "resnet18"}, "without folders"),
        ({"encoder_weights": "net.pth"}, "backbone is needed"),
        ({"backbone": "resnet18"}, "no embedded weights"),
    ],
)
def test_subset_options_that_make_no_sense(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SubsetOptions(**values)


def test_wrong_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no profile 'fast'; there are quick, subset, paper"):
        plan.runs("fast")
    with pytest.raises(ValueError, match="needs subset options"):
        plan.rows(TABLE_6, "subset")
    with pytest.raises(ValueError, match="takes no subset options"):
        plan.rows(TABLE_6, "quick", SUBSET)
    with pytest.raises(FileNotFoundError, match=r"subset\.json does not exist"):
        load_subset(tmp_path)
    with pytest.raises(FileNotFoundError, match="without its embedded encoder"):
        quick_base(tmp_path / "none.json")


@pytest.fixture(scope="module")
def tiny() -> RunConfig:
    """A run of two steps on  images."""
    base = quick_base()
    data = dataclasses.replace(base.data, categories=("fabric",), synthetic_train=8, synthetic_test=6)
    return dataclasses.replace(base, data=data, train=dataclasses.replace(base.train, steps=2, batch_size=4))


@pytest.fixture(scope="module")
def executed(tiny: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    results = tmp_path_factory.mktemp("study") / "results"
    return results, execute(tiny, results, profile="quick", execution=Execution(device="cpu", progress=False))


def test_execute_writes_a_record_that_says_everything(tiny: RunConfig, executed: tuple[Path, Path]) -> None:
    results, path = executed
    record = records.read_record(path)
    assert path == results / "runs" / f"quick_{tiny.hash}.json"
    assert run_config_from_dict(record["config"]) == tiny
    assert record["data"]["counts"]["fabric"]["train"] == 8
    assert [step for step, _ in record["train"]["loss"]] == [1, 2]
    assert set(record["metrics"]["exact"]["categories"]) == {"fabric"}
    assert len(record["encoder"]["sha256"]) == 64
    found = records.find_record(results, tiny.hash)
    assert found is not None
    assert found["hash"] == tiny.hash
    assert str(results) not in path.read_text()


def test_execute_does_nothing_twice(
    tiny: RunConfig, executed: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    results, path = executed

    def train_run(*_: object, **__: object) -> Never:
        raise AssertionError("trained again")

    monkeypatch.setattr(runner, "train_run", train_run)
    before = path.read_bytes()
    assert execute(tiny, results, profile="quick") == path
    assert path.read_bytes() == before
    with pytest.raises(AssertionError, match="trained again"):
        execute(tiny, results, profile="quick", force=True)
    path.write_text("{")  # a record that is none is made again
    with pytest.raises(AssertionError, match="trained again"):
        execute(tiny, results, profile="quick")
    path.write_bytes(before)


def test_execute_names_missing_and_wrong_images(tiny: RunConfig, executed: tuple[Path, Path], tmp_path: Path) -> None:
    results, _ = executed
    on_disk = dataclasses.replace(tiny, data=dataclasses.replace(tiny.data, dataset="mvtec_ad"))
    with pytest.raises(DatasetError, match="'mvtec_ad' needs its images"):
        execute(on_disk, tmp_path, profile="subset")
    drawn = next((results.parent / "outputs" / "synthetic").iterdir())
    other = dataclasses.replace(on_disk, data=dataclasses.replace(on_disk.data, index_hash="0" * 12))
    with pytest.raises(DatasetError, match=r"have the index hash [0-9a-f]{12}, this run is about 000000000000"):
        execute(other, tmp_path, profile="subset", data_root=drawn)

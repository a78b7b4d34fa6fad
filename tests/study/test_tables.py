"""Tables from records: what stands beside what, what is left empty, and what a reader is told."""

import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_records import SYNTHETIC, values, write_all_quick, write_fake

from mambaad.engine import records
from mambaad.study import figures, plan, published_numbers, table_view, tables
from mambaad.study.profiles import NOTES, SubsetOptions
from mambaad.study.published_weights import evaluate_published, published_weights_table
from mambaad.study.tables_spec import TABLE_1, TABLE_2, TABLE_4, TABLE_5, TABLE_6, TABLE_7, TABLES, Table


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with a made-up record for every quick run."""
    results = tmp_path_factory.mktemp("quick")
    write_all_quick(results)
    return results


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_quick_values_never_meet_the_paper(table: Table, quick: Path) -> None:
    frame = tables.build_table(table, "quick", quick, counts=False)
    labels = list(table.label_columns)
    assert frame["difference"].isna().all()
    measured = frame[frame["ours"].notna()]
    assert (measured["our_data"] == "synthetic").all()
    assert measured["note"].str.contains(NOTES["quick"], regex=False).all()
    assert (measured["run_hash"].str.len() == 12).all()
    assert not frame.duplicated([*dict.fromkeys([*labels, *frame.columns[: frame.columns.get_loc("metric")]]),
                                 "metric"]).any()  # fmt: skip
    printed = published_numbers.table_values(table)
    kept = frame.merge(printed, on=[*labels, "metric"])
    if table is TABLE_1:
        kept = kept[kept["category"] == "mean"]
    assert len(kept) == len(printed)
    assert (kept["paper"] == kept["value"]).all()
    stored = pd.read_csv(quick / "tables" / f"{table.name}.csv")
    assert list(stored.columns) == list(frame.columns)
    assert len(stored) == len(frame)
    assert set(stored["profile"]) == {"quick"}


def test_values_come_from_the_row_s_own_run(quick: Path) -> None:
    frame = tables.build_table(TABLE_5, "quick", quick)
    for row in plan.rows(TABLE_5, "quick"):
        assert row.run is not None
        record = records.find_record(quick, row.run.hash)
        assert record is not None
        line = frame[(frame["index"] == row.labels["index"]) & (frame["metric"] == "pixel_ap")].iloc[0]
        assert line["ours"] == record["metrics"]["paper"]["mean"]["pixel_ap"]
        assert line["ours_exact"] == record["metrics"]["exact"]["mean"]["pixel_ap"]
        assert line["run_hash"] == row.run.hash


def test_a_missing_record_keeps_its_row(tmp_path: Path) -> None:
    frame = tables.build_table(TABLE_7, "quick", tmp_path)
    assert len(frame) == 21 * 8
    assert frame["ours"].isna().all()
    assert frame["note"].str.endswith(tables.NOT_YET).all()
    assert len(tables.missing_runs(TABLE_7, "quick", tmp_path)) == 21
    extra = tables.build_table(TABLE_4, "quick", tmp_path, counts=False)
    assert (extra[extra["paper"].isna()]["note"] == tables.NOT_YET).sum() == 3
    assert "not run yet" in table_view.styled(TABLE_7, "quick", frame).data


def test_building_twice_gives_the_same_file_and_leaves_nothing_else(quick: Path) -> None:
    path = quick / "tables" / f"{TABLE_2.name}.csv"
    tables.build_table(TABLE_2, "quick", quick)
    first = path.read_bytes()
    tables.build_table(TABLE_2, "quick", quick)
    assert path.read_bytes() == first
    assert not list(path.parent.glob(".*"))


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_committed_tables_come_from_the_committed_records(table: Table, tmp_path: Path) -> None:
    committed = published_numbers.repository_root() / "results"
    shutil.copytree(committed / "runs", tmp_path / "runs")
    tables.build_table(table, "quick", tmp_path)
    name = f"tables/{table.name}.csv"
    assert (tmp_path / name).read_bytes() == (committed / name).read_bytes(), "run `make records`"


@pytest.mark.parametrize("table", [t for t in TABLES.values() if t.counted], ids=lambda t: t.name)
def test_counts_equal_the_printed_digits(table: Table, tmp_path: Path) -> None:
    frame = tables.build_table(table, "quick", tmp_path)
    counts = frame[(frame["our_data"] == "computed") & frame["paper"].notna()]
    assert set(counts["metric"]) == {"params_m", "flops_g"}
    if "method" in counts:  # its printed counts are no sums of its parts, and the notes say so
        diad = counts[counts["method"] == "DiAD"]
        assert len(diad) == 2 * (table is TABLE_6)
        assert not diad["note"].str.contains(tables.COUNT_EQUAL).any()
        counts = counts.drop(diad.index)
    equal = counts["ours"].round(1) == counts["paper"]
    apart = counts[~equal]
    assert (counts[equal]["note"] == tables.COUNT_EQUAL).all()
    if "backbone" not in counts:
        odd = [f"{TABLE_6.doubts['DeSTSeg', 'flops_g']}; printed 122.7, computed 40.3"] if table is TABLE_6 else []
        assert list(apart["note"]) == odd
        return
    assert set(apart["backbone"]) == {"ResNet50", "WideResNet50"}
    assert (apart["metric"] == "params_m").all()
    assert [n[:30] for n in apart["note"]] == ["printed 251.0, computed 251.4,", "printed 268.0, computed 267.7,"][
        : len(apart)
    ]


def test_other_methods_are_shown_as_published(quick: Path) -> None:
    frame = tables.build_table(TABLE_6, "quick", quick)
    mad = frame[frame["metric"] == "mad"].set_index("method")
    assert mad["ours"].drop("MambaAD").isna().all()
    assert mad.loc["RD4AD", "note"].startswith("not run here: trained on real images")
    others = frame[frame["method"] != "MambaAD"]
    swapped = others[others["note"].str.contains("swapped")]
    assert set(zip(swapped["method"], swapped["metric"], strict=True)) == {("DeSTSeg", "mad"), ("SimpleNet", "mad")}


def test_paper_profile_fills_the_difference(tmp_path: Path) -> None:
    runs = {tuple(r.labels.values()): r.run for r in plan.rows(TABLE_1, "paper") if r.run is not None}
    write_fake(tmp_path, "paper", runs["mvtec", "mean", "MambaAD"], names=("bottle",))
    for split in range(3):
        write_fake(tmp_path, "paper", runs["coco", str(split), "MambaAD"], start=40 + split, names=("all",))
    frame = tables.build_table(TABLE_1, "paper", tmp_path).set_index(["dataset", "category", "method", "metric"])
    for category, printed in (("mean", 98.6), ("bottle", 100.0)):
        line = frame.loc["mvtec", category, "MambaAD", "image_auroc"]
        assert line["paper"] == printed
        assert line["difference"] == pytest.approx(line["ours"] - printed)
    assert frame.loc["mvtec", "mean", "RD4AD", "mad"]["note"] == tables.AS_PUBLISHED
    assert math.isnan(frame.loc["coco", "mean", "MambaAD", "mad"]["ours"])  # a split is missing
    write_fake(tmp_path, "paper", runs["coco", "3", "MambaAD"], start=43, names=("all",))
    again = tables.build_table(TABLE_1, "paper", tmp_path).set_index(frame.index.names)
    coco = again.loc["coco", "mean", "MambaAD", "image_auroc"]
    assert coco["ours"] == pytest.approx((40 + 41 + 42 + 43) / 4)
    assert coco["difference"] == pytest.approx(41.5 - 63.9)


def test_subset_categories_stand_beside_the_paper_s_without_difference(tmp_path: Path) -> None:
    options = SubsetOptions(categories=("bottle", "screw"))
    write_fake(tmp_path, "subset", options.base(), names=("bottle", "screw"))
    frame = tables.build_table(TABLE_1, "subset", tmp_path, subset=options)
    measured = frame[frame["ours"].notna() & (frame["metric"] == "image_auroc")].set_index("category")
    assert measured.loc["bottle", "paper"] == 100.0
    assert math.isnan(measured.loc["mean of bottle, screw", "paper"])
    assert measured["difference"].isna().all()
    assert set(measured["our_data"]) == {"part of mvtec_ad"}
    with pytest.raises(FileNotFoundError, match="are not known yet"):
        tables.build_table(TABLE_1, "subset", tmp_path)


def test_published_weights_beside_the_paper(tmp_path: Path) -> None:
    metrics = {"paper": values(80, ["bottle"]), "exact": values(81, ["bottle"])}
    frame = published_weights_table("mvtec_ad", metrics, tmp_path)
    line = frame.set_index(["category", "metric"]).loc["bottle", "image_auroc"]
    assert line["difference"] == pytest.approx(line["ours"] - 100.0)
    assert (tmp_path / "tables" / "table_1_published_weights_mvtec_ad.csv").is_file()
    split = published_weights_table("coco2", metrics, tmp_path)
    assert set(split["category"]) == {"2"}
    assert split["paper"].notna().sum() == 7
    with pytest.raises(FileNotFoundError, match="Lewandofski/MambaAD"):
        evaluate_published("none.pth", "mvtec_ad", tmp_path)
    with pytest.raises(ValueError, match="no data set 'mvtec'; there are mvtec_ad"):
        evaluate_published("none.pth", "mvtec", tmp_path)


def test_wide_tables_keep_every_row_and_their_captions_say_what_they_are(quick: Path) -> None:
    for table in TABLES.values():
        frame = tables.build_table(table, "quick", quick, counts=False)
        view = table_view.wide(table, frame)
        names = table_view.with_names(table, frame)["row"]
        assert list(view.index) == list(dict.fromkeys(names))
        labels = frame.columns[: frame.columns.get_loc("metric")]
        assert len(view) == len(frame[list(labels)].drop_duplicates())
        assert not any(column == "difference" for _, column in view.columns)
        page = table_view.styled(table, "quick", frame).data
        assert "shows that the pipeline runs, not the paper&#x27;s numbers" in page
    means, categories = table_view.means_and_categories(tables.build_table(TABLE_1, "quick", quick))
    assert means["dataset"].iloc[0] == "synthetic"
    assert set(categories["category"]) == set(SYNTHETIC)


def test_notes_name_the_doubtful_lines(tmp_path: Path) -> None:
    text = table_view.notes(TABLE_4, tables.build_table(TABLE_4, "quick", tmp_path))
    assert "printed 251.0, computed 251.4" in text
    assert "needs the ImageNet weights of ResNet18" in text
    assert "too large for the quick profile" in text
    assert "table 1 prints 78.7" in table_view.notes(TABLE_2, tables.build_table(TABLE_2, "quick", tmp_path))


def test_loss_curves_draw_the_recorded_values() -> None:
    (line,) = figures.loss_curves({"a": [[1, 2.0], [2, 1.0]]}).axes[0].lines
    assert np.asarray(line.get_ydata()).tolist() == [2.0, 1.0]

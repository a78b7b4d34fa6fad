"""The protocol real_v1 and its runs: what is fixed stays fixed, and a run measures what its record says."""

import dataclasses
import hashlib
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import numpy as np
import pytest

from mambaad.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from mambaad.data.synthetic.generate import write_synthetic
from mambaad.engine import records
from mambaad.metrics import METRICS
from mambaad.model import EncoderWeightsError
from mambaad.study.evidence import curve_report, curves, protocol, report
from mambaad.study.evidence.carry_out import Resampling, carry_out, recorded, replicates
from mambaad.study.evidence.resample import draws, resampled_metrics
from mambaad.study.evidence.statistics import verdict
from mambaad.study.profiles import quick_base

ROOT = Path(__file__).resolve().parents[2]


def test_the_runs_are_those_that_were_fixed() -> None:
    """A changed setting would silently be another protocol: records of this one would no longer be found."""
    runs = list(protocol.queue())
    assert len(runs) == len({run.hash for _, _, run in runs}) == 225
    assert [row.name for row, _, _ in runs[:12]] == [row.name for row in protocol.rows("table_5_scan_methods")]
    text = (ROOT / "results" / "protocols" / "real_v1.md").read_text(encoding="utf-8")
    train, data = protocol.TRAIN, protocol.DATA
    for value in (train.steps, train.lr, protocol.SIDE, protocol.REPLICATES, data.index_hash):
        assert f"`{value}`" in text, f"results/protocols/real_v1.md does not state {value}"
    assert f"`{protocol.base().hash}`" in text


def test_every_run_is_resampled_on_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither seed nor blocks are in a run's hash: other draws would be paired with those of earlier records."""
    assert protocol.BLOCKS == {"glassfiber": 5}
    labels = np.array([False] * 7 + [True] * 11)
    counts = draws(labels, protocol.REPLICATES, protocol.RESAMPLE_SEED, 5)
    assert hashlib.sha256(counts.astype("<i8").tobytes()).hexdigest().startswith("6bd53623e356")
    maps = np.random.default_rng(0).random((18, 8, 8), dtype=np.float32)
    masks = np.zeros((18, 8, 8), dtype=bool)
    masks[labels, :2] = True
    scores = maps.max(axis=(1, 2))
    monkeypatch.setattr("mambaad.study.evidence.carry_out.mean_and_mad", dict)
    for category, block in (("glassfiber", 5), ("screw", 1)):
        resampling = Resampling()
        resampling(category, maps, masks, labels, scores)
        expected = draws(labels, protocol.REPLICATES, protocol.RESAMPLE_SEED, block)
        np.testing.assert_array_equal(
            resampling.facts()["replicates"][category], resampled_metrics(maps, masks, labels, scores, expected)
        )


def test_rows_differ_from_the_main_model_in_what_their_table_varies_only() -> None:
    main = dataclasses.asdict(protocol.base().model)
    for group in ("table_5_scan_methods", "table_2_incremental", "table_3_lss_branches", "table_7_lss_designs"):
        for row in protocol.rows(group):
            own = dataclasses.asdict(row.base.model)
            assert {name for name in main if own[name] != main[name]} <= set(protocol.VARIED)
            assert row.base.train == protocol.TRAIN


@pytest.mark.parametrize(
    ("group", "encoder"),
    [
        (protocol.METHODS, "imagenet_lite0"),
        (protocol.METHODS_RESNET18, "resnet18"),
        (protocol.METHODS_MOBILENETV2, "mobilenetv2"),
        (protocol.METHODS_MOBILENETV1, "mobilenetv1"),
    ],
)
def test_methods_share_encoder_images_steps_and_seeds(group: str, encoder: str) -> None:
    name = protocol.METHODS_RESNET18 if "mobilenet" in group else group  # three encoders in one amendment
    text = (ROOT / "results" / "protocols" / f"real_v1_{name}.md").read_text(encoding="utf-8")
    assert f"`{protocol.TRAIN.steps}` steps" in text
    main = protocol.base(encoder)
    rows = protocol.rows(group)
    assert rows[0].base == main
    for row in rows:
        for name in ("backbone", "backbone_kwargs", "mean", "std"):
            assert getattr(row.base.model, name) == getattr(main.model, name)
        assert (row.base.encoder_weights, row.base.data) == (main.encoder_weights, main.data)
    trained = [row.base.train for row in rows if row.name != "memory bank"]
    assert {(train.steps, train.batch_size) for train in trained} == {(protocol.TRAIN.steps, protocol.TRAIN.batch_size)}


def test_every_claim_is_about_rows_there_are() -> None:
    names = {(group, row.name) for group in protocol.GROUPS for row in protocol.rows(group)}
    for claim in protocol.CLAIMS:
        assert (claim.group, claim.row) in names
        assert (claim.group, claim.reference) in names
    with pytest.raises(ValueError, match="no group 'table_9'"):
        protocol.rows("table_9")


def test_a_run_is_recorded_with_its_replicates_and_not_made_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_synthetic(tmp_path / "data", side=64, train=4, test=6)
    quick = quick_base()
    run = RunConfig(
        model=dataclasses.replace(cast(ModelConfig, quick.model), directions=2),
        encoder_weights="embedded",
        data=DataConfig(dataset="mvtec_ad", side=64),
        train=TrainConfig(steps=2, batch_size=4, seed=0),
    )
    path = carry_out(run, tmp_path / "data", tmp_path / "results", outputs=tmp_path / "out", progress=False)
    record = records.read_record(path)
    values = record["replicates"]
    assert set(values) == {"protocol", "mad", *METRICS}
    assert all(len(values[name]) == 1 + protocol.REPLICATES for name in METRICS)
    exact = record["metrics"]["exact"]["mean"]
    for name in METRICS:
        assert values[name][0] == pytest.approx(exact[name], abs=0.2), name
    assert np.std(values["mad"][1:]) > 0
    assert record["environment"]["threads"] == 1
    before = path.read_bytes()
    carry_out(run, tmp_path / "data", tmp_path / "results", outputs=tmp_path / "out", progress=False)
    assert path.read_bytes() == before

    row = protocol.Row("table_5_scan_methods", "tiny", run)
    assert list(recorded(row, tmp_path / "results")) == [0]
    assert replicates(row, tmp_path / "results") == {0: values["mad"]}


def test_local_weights_are_asked_for_and_compared(tmp_path: Path) -> None:
    run = protocol.base("resnet18")
    with pytest.raises(EncoderWeightsError, match="--weights-dir"):
        carry_out(run, tmp_path, tmp_path / "results", outputs=tmp_path)
    (tmp_path / protocol.RESNET18.partition("@")[0]).write_bytes(b"another file")
    with pytest.raises(EncoderWeightsError, match="the protocol's is"):
        carry_out(run, tmp_path, tmp_path / "results", outputs=tmp_path, weights=tmp_path)


def test_what_is_said_of_simplenet_is_what_its_records_show() -> None:
    """The pages say that it did not train; a record that shows otherwise has to change them."""
    losses = {}
    for group in (protocol.METHODS, protocol.METHODS_RESNET18):
        row = next(row for row in protocol.rows(group) if row.name == "SimpleNet")
        found = recorded(row, ROOT / "results" / protocol.NAME)
        losses[group] = [[loss for _, loss in record["train"]["loss"]] for record in found.values()]
        assert losses[group]
    assert all(round(loss, 2) >= 1 for run in losses[protocol.METHODS] for loss in run), "it failed"
    ends = [fmean(run[-len(run) // 10 :]) for run in losses[protocol.METHODS_RESNET18]]
    assert all(0.99 <= end < 1.0 for end in ends), "it hardly began"
    said = {claim.group: claim.caveat for claim in protocol.CLAIMS if claim.reference == "SimpleNet"}
    assert said == {
        protocol.METHODS: "against a training that failed",
        protocol.METHODS_RESNET18: "against a training that hardly began",
    }


def test_differences_seen_by_less_than_the_noise_of_a_bootstrap_say_so() -> None:
    """0.05 points: what another draw of the resampled test sets moves an interval's end by."""
    for claim in protocol.CLAIMS:
        found = report.compare(claim, ROOT / "results" / protocol.NAME)
        seen = verdict(found, claim.sign) in ("supported", "contradicted")
        edge = found is not None and seen and min(abs(found.low), abs(found.high)) < 0.05
        assert edge == ("next to zero" in claim.caveat), claim


def test_the_curves_are_those_of_the_amendment() -> None:
    text = (ROOT / "results" / "protocols" / "real_v1_curves.md").read_text(encoding="utf-8")
    main = protocol.base()
    for watched in curves.CURVES:
        assert f"`{watched.base.train.steps}`" in text
        assert f"{watched.base.data.side} px" in text
        assert watched.base.data.index_hash == main.data.index_hash
        if isinstance(watched.base.model, ModelConfig):
            assert ", ".join(map(str, watched.base.model.depths)) in text
            assert dataclasses.replace(watched.base.train, steps=main.train.steps) == main.train
    for watched, method in zip(curves.CURVES[-2:], curves.RESNET18_METHODS, strict=True):
        row = next(row for row in protocol.rows(protocol.METHODS_RESNET18) if row.name == method)
        assert f"| {watched.name.removesuffix(f', {curves.LENGTH} steps')}" in text
        assert dataclasses.replace(watched.base, train=row.base.train) == row.base
        assert watched.seeds == curves.RESNET18_SEEDS
    assert f"with seeds `{', '.join(map(str, curves.RESNET18_SEEDS[1:]))}` as well" in text
    assert f"`{curves.EVERY}` steps" in text
    assert protocol.TRAIN.steps is not None
    assert 4 * protocol.TRAIN.steps == curves.LENGTH
    runs = [run.hash for _, _, run in curves.queue()]
    assert len(set(runs)) == len(runs) == 12
    assert not set(runs) & {run.hash for _, _, run in protocol.queue()}


def test_a_curve_says_how_much_choosing_the_best_step_flatters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = {0: [50.0, 72.0, 71.0], 1: [60.0, 61.0, 63.0]}

    def found(watched: protocol.Row, results: object) -> dict[int, dict[str, object]]:
        return {
            seed: {"curve": {"points": [{"step": 250 * (i + 1), "exact": {"mad": v}} for i, v in enumerate(values)]}}
            for seed, values in (drawn if watched is curves.CURVES[0] else {}).items()
        }

    monkeypatch.setattr(curve_report, "recorded", found)
    (line,) = curve_report.table(tmp_path).to_dict("records")
    assert (line["n"], line["last"], line["best on test"], line["best minus last"]) == (2, "67.0", "67.5", "0.5")
    assert (line["by seed"], line["best step"]) == ("1.0, 0.0", "500, 750")


def test_four_times_the_steps_are_compared_with_the_main_runs_seed_by_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = {
        seed: {"curve": {"points": [{"step": 250, "exact": {"mad": 99}}, {"step": curves.LENGTH, "exact": {"mad": v}}]}}
        for seed, v in {0: 74.0, 1: 71.0, 2: 80.0}.items()
    }
    usual = {seed: {"metrics": {"exact": {"mean": {"mad": v}}}} for seed, v in {0: 72.0, 1: 71.5, 4: 9.0}.items()}
    known: dict[str, Any] = {curves.CURVES[0].name: long, protocol.base_row().name: usual}
    monkeypatch.setattr(curve_report, "recorded", lambda row, results: known.get(row.name, {}))
    said = curve_report.longer(tmp_path)
    assert "change mAD by +0.8 points (by seed +2.0, −0.5; n = 2)" in said
    known.pop(protocol.base_row().name)
    assert curve_report.longer(tmp_path) == ""


def test_two_methods_are_compared_at_both_lengths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(mad: float) -> dict[str, Any]:
        return {"curve": {"points": [{"step": curves.LENGTH, "exact": {"mad": mad}}]}}

    def usual(mad: float) -> dict[str, Any]:
        return {"metrics": {"exact": {"mean": {"mad": mad}}}}

    known: dict[str, Any] = {"MambaAD": {0: usual(65.0), 1: usual(9.0)}, "RD4AD": {0: usual(73.0)}}
    known |= {curves.with_resnet18("MambaAD").name: {0: end(70.0)}, curves.with_resnet18("RD4AD").name: {0: end(74.5)}}
    monkeypatch.setattr(curve_report, "recorded", lambda row, results: known.get(row.name, {}))
    said = curve_report.distance(tmp_path)
    assert "RD4AD minus MambaAD is +8.0 points of mAD after 600 steps and +4.5 after 2400" in said
    assert "MambaAD 65.0 and 70.0, RD4AD 73.0 and 74.5; seed 0 alone" in said
    known["RD4AD"][1] = usual(19.0)
    known[curves.with_resnet18("MambaAD").name][1] = end(30.0)
    known[curves.with_resnet18("RD4AD").name][1] = end(29.5)
    said = curve_report.distance(tmp_path)
    assert "is +9.0 points of mAD after 600 steps and +2.0 after 2400" in said
    assert "MambaAD 37.0 and 50.0, RD4AD 46.0 and 52.0; by seed +8.0, +10.0 and +4.5, −0.5; n\xa0=\xa02" in said
    known.pop("RD4AD")
    assert curve_report.distance(tmp_path) == ""

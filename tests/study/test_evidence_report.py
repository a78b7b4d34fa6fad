"""The evidence page from records: rows, claims and findings follow the records, and say when there are none."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from test_explanations import run_cells

from mambaad.metrics import METRICS
from mambaad.study import front_page, tables
from mambaad.study.evidence import coverage, explorer, method_report, protocol, report
from mambaad.study.evidence.carry_out import recorded
from mambaad.study.evidence.forest import forest, lines
from mambaad.study.evidence.long_table import long_table, write_tables
from mambaad.study.evidence.protocol import Row
from mambaad.study.published_numbers import repository_root

GROUP = "table_5_scan_methods"


def write(folder: Path, row: Row, seed: int, mad: float, device: str = "CPU A(R), 2 cores", commit: str = "a") -> None:
    """A record with just what the report reads, and two image replicates."""
    run = row.run(seed)
    metrics = {**dict.fromkeys(METRICS, mad), "mad": mad}
    part = {"mean": metrics, "categories": {"bottle": metrics}}
    fields = ("encoder", "data", "seed", "environment", "wall_seconds", "train", "efficiency")
    record: dict[str, Any] = {
        "schema": 1,
        "profile": protocol.NAME,
        "hash": run.hash,
        "config": {},
        **dict.fromkeys(fields),
        "environment": {"device": device, "code": {"commit": commit}},
    }
    values = [mad, mad + 0.1, mad - 0.1]
    record |= {"metrics": {"exact": part, "paper": part}, "replicates": dict.fromkeys((*METRICS, "mad"), values)}
    path = folder / "runs" / f"{protocol.NAME}_{run.hash}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """hilbert 8 clearly better than sweep 8, like scan 8, worse than zorder 8; the rest not run."""
    rows = {row.name: row for row in protocol.rows(GROUP)}
    for seed in range(4):
        noise = 0.1 * (seed % 2)
        for name, mad in (("hilbert 8", 80), ("sweep 8", 77), ("scan 8", 80), ("zorder 8", 83)):
            write(tmp_path, rows[name], seed, mad + noise * (1 if name != "scan 8" else -1))
    return tmp_path


def test_verdicts_follow_the_records(results: Path) -> None:
    verdicts = report.claims(results, GROUP).set_index("claim")["verdict"]
    assert verdicts["hilbert 8 is better than sweep 8"] == "supported"
    assert verdicts["hilbert 8 is better than zorder 8"] == "contradicted"
    assert verdicts["hilbert 8 is better than scan 8"].startswith("no difference seen (smaller than 0.")
    assert verdicts["hilbert 8 is better than hilbert 2"] == "not tested here"
    assert report.findings(results)[0] == (
        "Table 5, scan orders: of 11 claims, 1 is supported, 1 is contradicted, 1 shows no difference, 8 not tested."
    )


def test_rows_have_means_with_n_and_one_decimal(results: Path) -> None:
    means = report.row_means(GROUP, results).set_index("row")
    assert list(means.index) == ["sweep 8", "scan 8", "zorder 8", "hilbert 8"]
    assert means.loc["sweep 8", "mAD"] in ("77.0", "77.1")
    assert set(means["n"]) == {4}
    assert report.status(results).iloc[0]["runs recorded"] == 16
    assert report.progress(results) == (16, len(list(protocol.queue())))


def test_the_forest_shows_every_recorded_row_but_the_reference(results: Path) -> None:
    found = lines(GROUP, "hilbert 8", results)
    assert [line.name for line in found] == ["sweep 8", "scan 8", "zorder 8"]
    assert [round(line.estimate.value) for line in found] == [-3, 0, 3]
    with pytest.raises(ValueError, match="no row 'hilbert 9'; there are sweep 8"):
        lines(GROUP, "hilbert 9", results)


def test_every_dot_of_the_forest_leads_to_its_record(results: Path) -> None:
    found = lines(GROUP, "hilbert 8", results)
    drawing = forest(found, "hilbert 8", "records").data
    links = re.findall(r'href="records/(real_v1_\w+\.json)"', drawing)
    assert len(links) == len(set(links)) == 12
    assert all((results / "runs" / name).is_file() for name in links)
    # the axis runs from left to right: what is worse than the reference lies left of zero
    line = re.search(r'class="zero" x1="([\d.]+)"', drawing)
    assert line is not None
    zero = float(line[1])
    means = [float(x) - zero for x in re.findall(r'class="mean[^"]*" d="M([\d.]+) ', drawing)]
    assert means[0] < -50
    assert abs(means[1]) < 12
    assert means[2] > 50
    assert "sweep 8 −3.0" in drawing  # said in words, too
    with pytest.raises(ValueError, match="nothing to draw"):
        forest([], "hilbert 8", "records")


def test_the_explorer_has_every_comparison_in_every_metric_and_names_what_is_missing(results: Path) -> None:
    data = explorer.explored(results, "records")
    assert [name for name, _ in data["metrics"]] == ["mad", *METRICS]
    (group,) = [g for g in data["groups"] if g["reference"] == "hilbert 8"]
    assert [row["name"] for row in group["rows"]] == ["sweep 8", "scan 8", "zorder 8"]
    assert "hilbert 4" in group["missing"]
    assert not set(group["missing"]) & {"hilbert 8", "sweep 8"}
    sweep, scan, _ = group["rows"]
    for values in sweep["values"].values():
        assert values["mean"] == pytest.approx(-3)
        assert values["low"] <= -3 <= values["high"] < 0
        assert values["sure"]
        assert values["differences"] == pytest.approx([-3] * 4)
    assert not scan["values"]["mad"]["sure"]
    paths = [results / "runs" / f"{data['records'].rpartition('/')[2]}{run}.json" for _, run in sweep["runs"]]
    assert len(paths) == 4
    assert all(path.is_file() for path in paths)


def test_the_explorer_rounds_once(results: Path) -> None:
    data = explorer.explored(results, "records")
    (group,) = [g for g in data["groups"] if g["reference"] == "hilbert 8"]
    for row, line in zip(group["rows"], lines(GROUP, "hilbert 8", results), strict=True):
        shown = row["values"]["mad"]["low"]
        assert shown == pytest.approx(line.estimate.low, abs=1e-6), "two decimals are shown near zero"


def test_the_explorer_shows_the_first_group_where_no_script_runs(results: Path, tmp_path: Path) -> None:
    figure = explorer.explorer(results, "records").data
    assert 'class="forest"' in figure
    assert "<figcaption><strong>Explore " in figure
    with pytest.raises(ValueError, match="nothing to explore"):
        explorer.explorer(tmp_path / "none", "records")


def test_one_seed_has_no_interval_and_concludes_nothing(tmp_path: Path) -> None:
    rows = {row.name: row for row in protocol.rows(GROUP)}
    for name, mad in (("hilbert 8", 80), ("sweep 8", 70)):
        write(tmp_path, rows[name], 0, mad)
    (row,) = next(g for g in explorer.explored(tmp_path, "r")["groups"] if g["reference"] == "hilbert 8")["rows"]
    assert row["n"] == 1
    assert row["values"]["mad"]["low"] is None
    assert not row["values"]["mad"]["sure"]


@pytest.mark.parametrize(("value", "text"), [(0.04, "0.0"), (-0.04, "0.0"), (0.06, "+0.1"), (-1.26, "−1.3")])
def test_a_difference_that_rounds_to_nothing_has_no_sign(value: float, text: str) -> None:
    assert report.in_points(value) == text


def test_every_reference_is_a_row_of_its_table() -> None:
    for group, reference in protocol.REFERENCES.items():
        assert reference in [row.name for row in protocol.rows(group)]


def test_the_long_table_holds_every_recorded_value_once(results: Path) -> None:
    table = long_table(GROUP, results)
    assert len(table) == 16 * 2 * 2 * 8  # runs, protocols, mean and category, metrics
    assert not table.duplicated(["run_hash", "protocol", "category", "metric"]).any()
    (path,) = [path for path in write_tables(results) if path.stem == GROUP]
    assert len(pd.read_csv(path)) == len(table)
    with pytest.raises(ValueError, match="no group"):
        long_table("table_9", results)


def test_committed_tables_come_from_the_committed_records(tmp_path: Path) -> None:
    committed = repository_root() / "results" / protocol.NAME
    shutil.copytree(committed / "runs", tmp_path / "runs")
    written = write_tables(tmp_path)
    assert [path.name for path in written] == [
        f"{group}.csv" for group in protocol.GROUPS if (committed / "tables" / f"{group}.csv").is_file()
    ]
    for path in written:
        assert path.read_bytes() == (committed / "tables" / path.name).read_bytes(), "run `mambaad evidence --tables`"


def test_claims_about_methods_name_their_encoder() -> None:
    claims = report.claims(repository_root() / "results" / protocol.NAME)["claim"].tolist()
    assert len(claims) == len(set(claims)), "two claims read the same"


def test_chance_is_set_beside_what_was_seen(results: Path) -> None:
    assert report.by_chance(results) == ""
    lines = [{"seeds": 4, "images": k, "coverage": share} for k, share in ((0, 0.2), (1, 0.6))]
    lines.append({"seeds": 5, "images": 0, "coverage": 1.0})  # the comparisons of this fixture have four
    (results / coverage.FILE).write_text(json.dumps({"simulated": lines}))
    chance = report.by_chance(results)
    assert chance.startswith("2 of the 3 intervals about parts of the network exclude zero;")
    assert "so chance alone would give 1 to 2 on average if" in chance
    assert chance in report.adjusted(results)
    assert chance in front_page._evidence(results)[0]


def test_depths_outside_the_paper_are_said_from_records(tmp_path: Path) -> None:
    assert report.depth_outside_the_paper(tmp_path) == ""
    values = {"[2,2,2,2]": 70.0, "[2,9,2,2]": 71.0, "[3,4,6,3]": 70.5}
    for row in protocol.rows("table_4_backbone_depth"):
        if row.name.startswith("EfficientNet"):
            for seed in range(3):
                write(tmp_path, row, seed, values[row.name.split()[1]])
    said = report.depth_outside_the_paper(tmp_path)
    assert "2, 9, 2, 2 minus 2, 2, 2, 2 are +1.0 (" in said
    assert "3, 4, 6, 3 minus 2, 9, 2, 2, is −0.5 (" in said


def test_the_whole_decoder_is_compared_with_a_plain_one_from_three_seeds_on(tmp_path: Path) -> None:
    rows = {row.name: row for row in protocol.rows("table_2_incremental")}
    for seed in range(3):
        assert report.whole_decoder(tmp_path) == ""
        write(tmp_path, rows["Mamba decoder"], seed, 71.0)
        write(tmp_path, rows["+ LSS + HSS"], seed, 70.0)
    assert report.whole_decoder(tmp_path).startswith(
        "MambaAD's full decoder scores 1.0 points of mAD below a plain Mamba decoder (−1.0, "
    )
    write(tmp_path, rows["+ LSS + HSS"], 0, 76.0)
    assert report.whole_decoder(tmp_path).startswith(
        "MambaAD's full decoder and a plain Mamba decoder show no difference (+1.0, "
    )


def test_rows_are_compared_within_an_encoder(tmp_path: Path) -> None:
    group = "table_4_backbone_depth"
    for row in protocol.rows(group):
        write(tmp_path, row, 0, 70.0)
    resnet, lite0 = (
        [line.name for line in lines(group, reference, tmp_path)]
        for reference in (protocol.REFERENCES[group], protocol.WITHIN_LITE0)
    )
    assert resnet == ["ResNet18 [2,2,2,2]"]
    assert lite0 == ["EfficientNet-Lite0 [2,9,2,2]", "EfficientNet-Lite0 [3,4,6,3]"]
    with pytest.raises(ValueError, match="no row 'VGG'"):
        protocol.compared_with(group, "VGG")


@pytest.mark.parametrize("recorded", [True, False])
def test_the_page_runs_with_and_without_records(
    results: Path, tmp_path_factory: pytest.TempPathFactory, recorded: bool
) -> None:
    folder = results if recorded else tmp_path_factory.mktemp("empty")
    page = run_cells("evidence", evidence=str(folder), again=str(folder / "again"))
    assert len(page["table"]) == (1 if recorded else 0)


def test_the_front_page_counts_and_cites(tmp_path: Path, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = front_page.findings("results")
    assert len(sentences) == 5
    assert all("{doc}`" in sentence for sentence in sentences[:4])
    assert "Of 0 reported" in front_page.findings(tmp_path)[0]
    assert "Of 32 reported" in sentences[0], "a network that table 3 names for two data sets counts once"
    (tmp_path / "tables").mkdir()
    lines = [
        ("local", "mvtec", "params_m", tables.COUNT_EQUAL),
        ("local", "visa", "params_m", tables.COUNT_EQUAL),  # the same network
        ("global", "mvtec", "params_m", "differs"),
        ("global", "mvtec", "flops_g", tables.COUNT_EQUAL),
        ("global", "mvtec", "mad", "no count"),
    ]
    frame = pd.DataFrame(lines, columns=["method", "dataset", "metric", "note"]).assign(paper=1.0, ours=1.0)
    frame[["method", "dataset", "metric", "paper", "ours", "note"]].to_csv(
        tmp_path / "tables" / "table_3_lss_branches.csv", index=False
    )
    monkeypatch.setattr(front_page.claims, "findings", lambda: pd.DataFrame({"found": ["found", "found", "not found"]}))
    counts, audit, *_ = front_page.findings(tmp_path)
    assert "Of 3 reported parameter and FLOP counts" in counts
    assert "other methods, 2 are reproduced to the digit" in counts
    assert "An audit lists 2 inconsistencies" in audit
    (ablations,) = front_page._evidence(results)
    assert "of 3 claims tested" in ablations
    assert "1 is supported, 1 is contradicted, 1 shows no difference" in ablations
    (waiting,) = front_page._evidence(tmp_path / "nothing")
    assert f"0 of {len(list(protocol.queue()))} are recorded" in waiting


def test_a_method_that_is_ahead_with_one_encoder_only_is_named(tmp_path: Path) -> None:
    rival = {protocol.METHODS: 76.0, protocol.METHODS_RESNET18: 84.0}
    for seed in range(4):
        for group, mad in rival.items():
            for row in protocol.rows(group):
                values = {"MambaAD": 80.0, "RD4AD": mad, "UniAD": 50.0}
                if row.name in values:
                    write(tmp_path, row, seed, values[row.name] + 0.1 * (seed % 2 if row.name == "RD4AD" else 0))
    said = method_report.sentence(tmp_path)
    assert (
        "depends on the encoder: with EfficientNet-Lite0 (4 seeds), of 5 claims, 2 are supported, 3 not tested" in said
    )
    assert "with ResNet18 (4 seeds), of 5 claims, 1 is supported, 1 is contradicted, 3 not tested.**" in said
    assert "It is ahead of RD4AD with EfficientNet-Lite0, and behind with ResNet18." in said


def test_the_metric_protocols_differ_as_the_pages_say() -> None:
    """04_measuring and differences_from_published.md: AU-PRO by both protocols, of every network that was trained."""
    records = repository_root() / "results" / protocol.NAME
    gaps: dict[bool, list[float]] = {True: [], False: []}
    for group in protocol.GROUPS:
        for row in protocol.rows(group):
            for record in recorded(row, records).values():
                exact, paper = (record["metrics"][name]["mean"]["pixel_aupro"] for name in ("exact", "paper"))
                gaps[row.name == "DeSTSeg"].append(abs(paper - exact))
    assert (round(min(gaps[True])), round(max(gaps[True]))) == (4, 8)
    assert max(gaps[False]) < 2


def test_names_are_listed_as_a_reader_would() -> None:
    assert report.listed(["a"]) == "a"
    assert report.listed(["a", "b"]) == "a and b"
    assert report.listed(iter(["a", "b", "c"])) == "a, b and c"
    assert report.listed(["a", "b, small", "c"]) == "a; b, small and c"


def test_table_1_says_of_the_encoders_what_the_records_say() -> None:
    """The page and reproduced_or_not.md name the methods that MambaAD is ahead of and behind, and the comparisons of
    methods without a difference: other verdicts have to change both texts."""
    records = repository_root() / "results" / protocol.NAME
    found = {
        (claim.group, claim.reference): report.in_words(report.compare(claim, records), claim.sign)
        for claim in protocol.CLAIMS
    }
    for name in ("RD4AD", "memory bank"):
        assert found[protocol.METHODS, name] == found[protocol.METHODS_MOBILENETV2, name] == "supported"
        assert found[protocol.METHODS_RESNET18, name] == found[protocol.METHODS_MOBILENETV1, name] == "contradicted"
    assert found[protocol.METHODS, "DeSTSeg"] == "supported"
    alike = [key for key, words in found.items() if key[0] in protocol.COMPARISONS and words.startswith("no diff")]
    assert alike == [(protocol.METHODS_RESNET18, "DeSTSeg")]


def test_every_comparison_bears_on_one_claim_of_the_front_page() -> None:
    for claim in protocol.CLAIMS:
        assert sum(front_page._bears(claim, claimed) for claimed in front_page.CLAIMED) == 1, claim


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        ({"not tested here": 3}, "not tested here"),
        ({"supported": 3}, "supported"),
        ({"supported": 2, "contradicted": 1}, "contradicted"),
        ({"supported": 2, "not tested here": 1}, "partly supported"),
        ({"no difference seen": 2, "not tested here": 1}, "no difference seen"),
    ],
)
def test_several_comparisons_make_one_verdict(verdicts: dict[str, int], words: str) -> None:
    assert front_page.overall(3, Counter(verdicts)) == words


def test_the_front_page_s_files_hold_what_the_functions_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_page, "findings", lambda results: ["One.", f"Two, of {results}."])
    monkeypatch.setattr(front_page, "example", lambda: "<figure></figure>")
    front_page.write("there", tmp_path)
    assert (tmp_path / "findings.md").read_text() == "1. One.\n2. Two, of there.\n"
    assert (tmp_path / "example.html").read_text() == "<figure></figure>\n"
    table = (tmp_path / "claims.html").read_text()
    for claimed in front_page.CLAIMED:
        assert claimed.sentence in table
    judged = [(claimed.group, number, found) for claimed, number, found in front_page.judged(tmp_path)]
    for group in (protocol.METHODS, protocol.METHODS_RESNET18):
        methods, bank = ((number, found) for own, number, found in judged if own == group)
        assert methods == (5, Counter({"not tested here": 5})), "DiAD, which no run tests, is one of the paper's five"
        assert bank[0] == 1
    assert table.count('class="verdict') == len(front_page.CLAIMED) + 1


def test_the_claims_table_shows_each_claim_with_its_own_verdict(results: Path) -> None:
    """Each line of the table against the function that judges, caveats at their own comparisons."""
    records = repository_root() / "results" / protocol.NAME
    for folder in (results, records):
        page = re.sub(r"&\w+;|\s+", " ", front_page.claims_table(folder))
        rows = re.findall(r"<tr\b.*?</tr>", page)
        for claimed, number, verdicts in front_page.judged(folder):
            (row,) = (row for row in rows if claimed.sentence in row)
            assert re.findall(r'class="verdict[^>]*>([^<]*)<', row) == [front_page.overall(number, verdicts)]
            caveats = {claim.caveat for claim in protocol.CLAIMS if claim.caveat}
            own = {claim.caveat for claim in protocol.CLAIMS if claim.caveat and front_page._bears(claim, claimed)}
            assert {caveat for caveat in caveats if caveat in row} == own
    assert "31 of 42 cells" in page

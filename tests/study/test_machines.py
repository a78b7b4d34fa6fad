"""On which processors runs were made: rows that never met their reference's are named, and compared again."""

from pathlib import Path

from test_evidence_report import GROUP, results, write  # noqa: F401  the fixture

from mambaad.study.evidence import machines, protocol


def test_processors_are_counted_and_the_main_row_compared_with_itself(results: Path, tmp_path: Path) -> None:  # noqa: F811
    assert machines.sentences(tmp_path / "nothing", tmp_path) == ""
    assert machines.sentences(results, tmp_path / "nothing") == "Of the protocol's runs, 16 were made on A."
    rows = {row.name: row for row in protocol.rows(GROUP)}
    write(results, rows["hilbert 2"], 0, 70.0, device="CPU B, 2 cores", commit="b")
    again = tmp_path / "again"
    for seed in (0, 1):
        write(again, rows["hilbert 8"], seed, 80.5, device="CPU B, 2 cores")
    said = machines.sentences(results, again)
    assert said.startswith("Of the protocol's runs, 16 were made on A and 1 were made on B. In some comparisons")
    assert "never met the same processor, and with other code: Table 5: scan orders (1 row)." in said
    assert "made again on B with later code, moves by +0.5, +0.4 points of mAD (seeds 0, 1), on average by" in said
    assert said.endswith("its seeds differ by 0.1.")


def test_a_row_that_never_met_its_reference_s_processor_is_named_and_compared_again(tmp_path: Path) -> None:
    rows = {row.name: row for row in protocol.rows(GROUP)}
    again = tmp_path / "again"
    for seed in range(3):
        write(tmp_path, rows["hilbert 8"], seed, 80.0)
        write(tmp_path, rows["scan 8"], seed, 79.0, device="CPU A(R), 2 cores" if seed == 1 else "CPU B, 2 cores")
        write(tmp_path, rows["sweep 8"], seed, 79.0, device="CPU B, 2 cores")
        write(again, rows["hilbert 8"], seed, 78.5, device="CPU B, 2 cores")
    assert [(group, row.name) for group, row in machines.apart(tmp_path)] == [(GROUP, "sweep 8")]
    (line,) = machines.against_again(tmp_path, again).to_dict("records")
    assert line["row"] == "sweep 8"
    for column, difference in (("minus the main row", "−1.0 ("), ("minus the main row made again", "+0.5 (")):
        assert line[column].startswith(difference)
        assert line[column].endswith(", n 3")
    assert machines.against_again(tmp_path, tmp_path / "none").empty
    assert machines.note(GROUP, tmp_path).startswith(
        "<em>sweep 8</em> was run on another processor than the reference. A shift"
    )
    assert machines.note("table_2_incremental", tmp_path) == ""


def test_every_reference_of_a_group_is_asked_for_the_processor(tmp_path: Path) -> None:
    for row in protocol.rows("table_4_backbone_depth"):
        write(tmp_path, row, 0, 70.0, device="CPU B" if "[2,9,2,2]" in row.name else "CPU A")
    assert [row.name for _, row in machines.apart(tmp_path)] == ["EfficientNet-Lite0 [2,9,2,2]"]


def test_the_note_names_every_row_apart_and_whether_its_code_was_another(tmp_path: Path) -> None:
    rows = protocol.rows("table_2_incremental")
    reference = protocol.REFERENCES["table_2_incremental"]
    others = [row for row in rows if row.name != reference]
    for row in rows:
        write(tmp_path, row, 0, 70.0, device="CPU A" if row.name == reference else "CPU B")
    start = "All other rows were run on another processor than the reference"
    assert machines.note("table_2_incremental", tmp_path).startswith(f"{start}. A shift")
    write(tmp_path, others[0], 0, 70.0, device="CPU B", commit="b")
    assert machines.note("table_2_incremental", tmp_path).startswith(f"{start}, and some with other code. A shift")
    for row in others:
        write(tmp_path, row, 0, 70.0, device="CPU B", commit="b")
    assert machines.note("table_2_incremental", tmp_path).startswith(f"{start}, and with other code. A shift")
    write(tmp_path, others[0], 0, 70.0, device="CPU A")
    alone = machines.note("table_2_incremental", tmp_path)
    assert alone.startswith(f"<em>{others[1].name}</em> was run on another processor")

"""`mambaad evidence`: the runs on real images that the book's findings rest on."""

from __future__ import annotations

import argparse
from pathlib import Path

from mambaad.cli.options import AddCommand

COMMITTED = Path("results/real_v1")


def add(command: AddCommand) -> None:
    """Add the command."""
    sub = command("evidence", _evidence, "make the runs of the protocol real_v1, or say how far they are")
    sub.add_argument("--data", type=Path, help="root of the images: mvtec/ and other/ (`mambaad data where real_v1`)")
    sub.add_argument("--weights-dir", type=Path, help="folder of local encoder weights (ResNet18, MobileNetV1 and V2)")
    sub.add_argument("--results", type=Path, default=COMMITTED, help="folder of the records")
    sub.add_argument("--outputs", type=Path, default=Path("build/real_v1"), help="folder of checkpoints and features")
    sub.add_argument("--run", dest="run_hashes", metavar="HASH", nargs="+", help="only these runs")
    what = sub.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="print hash, group, row and seed of every run and stop")
    what.add_argument("--tables", action="store_true", help="write every recorded value as CSV, by table, and stop")
    what.add_argument("--sensitivity", action="store_true", help="read the main row's networks in other ways and stop")
    what.add_argument("--status", action="store_true", help="print how many runs of each row have a record and stop")


def _evidence(arguments: argparse.Namespace) -> int:
    from mambaad.files import check_output
    from mambaad.study.evidence import curves, protocol
    from mambaad.study.evidence.carry_out import carry_out, recorded
    from mambaad.study.evidence.rerun import beside_recorded

    for folder in (arguments.results, arguments.outputs):
        check_output(folder, folder=True)
    if arguments.run_hashes is not None and (arguments.tables or arguments.status or arguments.sensitivity):
        raise ValueError("--run chooses runs to make or to list: leave it out of --tables, --status and --sensitivity")
    if arguments.tables:
        from mambaad.study.evidence.long_table import write_tables

        for path in write_tables(arguments.results):
            print(path)
        return 0
    if arguments.status:
        for row in [*(row for group in protocol.GROUPS for row in protocol.rows(group)), *curves.CURVES]:
            print(f"{len(recorded(row, arguments.results))} of {len(row.seeds)}  {row.group}: {row.name}")
        return 0
    entries = [*protocol.queue(), *curves.queue()]
    if arguments.run_hashes is not None:
        unknown = set(arguments.run_hashes) - {run.hash for _, _, run in entries}
        if unknown:
            raise ValueError(f"the protocol {protocol.NAME} has no run {sorted(unknown)[0]!r}; --list prints its runs")
        entries = [entry for entry in entries if entry[2].hash in arguments.run_hashes]
    if arguments.list:
        for row, seed, run in entries:
            print(f"{run.hash}\t{row.group}\t{row.name}\t{seed}")
        return 0
    if arguments.data is None:
        raise ValueError("--data is needed to make runs: the root of the images, see `mambaad data where real_v1`")
    if arguments.sensitivity:
        return _sensitivity(arguments)
    for row, seed, run in entries:
        print(f"{run.hash}  {row.group}: {row.name}, seed {seed}", flush=True)
        made = carry_out(
            run,
            arguments.data,
            arguments.results,
            outputs=arguments.outputs,
            weights=arguments.weights_dir,
            curve_every=curves.EVERY if row.group == curves.GROUP else None,
        )
        if row.group == curves.GROUP:
            continue  # one value does not say where a curve lies
        if arguments.results.resolve() != COMMITTED.resolve() and (words := beside_recorded(row, made, COMMITTED)):
            print(words, flush=True)
    return 0


def _sensitivity(arguments: argparse.Namespace) -> int:
    from mambaad.data import load_dataset
    from mambaad.study.evidence import protocol, sensitivity
    from mambaad.study.tables_spec import TABLE_5

    main = next(row for row in protocol.rows(TABLE_5.name) if row.name == protocol.REFERENCES[TABLE_5.name])
    paths = {
        seed: arguments.outputs / "runs" / f"{protocol.NAME}_{main.run(seed).hash}" / "checkpoint.pth"
        for seed in protocol.SEEDS
    }
    there = {seed: path for seed, path in paths.items() if path.is_file()}
    if not there:
        raise ValueError(f"no trained network of the row {main.name!r} in {arguments.outputs}: make its runs first")
    samples = load_dataset(protocol.NAME, arguments.data)
    print(sensitivity.measure(there, samples, protocol.SIDE, arguments.results))
    return 0

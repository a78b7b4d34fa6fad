"""`mambaad reproduce`: the study's runs, one at a time or all of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mambaad.config import ModelConfig, RunConfig
from mambaad.data.datasets.catalog import DATASETS
from mambaad.engine.records import record_path
from mambaad.files import check_output
from mambaad.study import plan
from mambaad.study.profiles import PROFILES, SubsetOptions, load_subset, quick_base, save_subset
from mambaad.study.tables_spec import TABLES

SUBSET: dict[str, Any] = {
    "dataset": "mvtec_ad",
    "categories": [],
    "encoder_file": None,
    "backbone": "",
    "pad_type": None,
    "mean": None,
    "std": None,
    "side": 256,
    "depths": (3, 4, 6, 3),
    "epochs": 100,
    "batch_size": 16,
    "lr": 1e-3,
    "warmup_steps": 20,
    "clip_norm": 10.0,
}
"""Options of the subset profile, and what holds where they are not given."""


def add_options(sub: argparse.ArgumentParser) -> None:
    """Options of the command."""
    sub.add_argument("--profile", default="quick", choices=PROFILES, help="settings of the runs")
    sub.add_argument(
        "--tables", nargs="+", default=list(TABLES), choices=list(TABLES), metavar="TABLE", help="tables to cover"
    )
    sub.add_argument("--results", type=Path, help="folder of the records (not given: build/PROFILE/results)")
    sub.add_argument("--data-dir", type=Path, help="root of the images (quick: where the synthetic set is drawn)")
    sub.add_argument("--run", dest="run_hashes", metavar="HASH", nargs="+", help="only these runs")
    what = sub.add_mutually_exclusive_group()
    what.add_argument("--prepare", action="store_true", help="only draw the synthetic set")
    what.add_argument("--list", action="store_true", help="print the hash of every run and stop")
    what.add_argument("--dry-run", action="store_true", help="describe every run and stop")
    sub.add_argument(
        "--speed",
        type=float,
        metavar="IMAGES",
        help="with --dry-run of the profile paper: training images per second of the main model on your card, to "
        "estimate hours (not given: a measured CPU's)",
    )
    subset = sub.add_argument_group("subset profile")
    subset.add_argument(
        "--dataset", default=SUBSET["dataset"], choices=list(DATASETS), help="data set or layout of the images"
    )
    subset.add_argument("--categories", nargs="*", default=SUBSET["categories"], help="categories, all in one model")
    subset.add_argument("--encoder-file", type=Path, help="local encoder weights (not given: the embedded encoder)")
    subset.add_argument("--backbone", default=SUBSET["backbone"], help="timm model name of the encoder file")
    subset.add_argument("--pad-type", choices=["same", "valid"], help="timm padding of some backbones")
    subset.add_argument("--mean", type=float, nargs=3, help="input mean of the encoder (not given: ImageNet's)")
    subset.add_argument("--std", type=float, nargs=3, help="input standard deviation (not given: ImageNet's)")
    subset.add_argument("--side", type=int, default=SUBSET["side"], help="side of the network input in pixels")
    subset.add_argument("--depths", type=int, nargs=4, default=SUBSET["depths"], help="HSS blocks per decoder stage")
    subset.add_argument("--epochs", type=int, default=SUBSET["epochs"], help="passes over the training images")
    subset.add_argument("--batch-size", type=int, default=SUBSET["batch_size"], help="images per step")
    subset.add_argument("--lr", type=float, default=SUBSET["lr"], help="peak learning rate")
    subset.add_argument("--warmup-steps", type=int, default=SUBSET["warmup_steps"], help="steps of linear warm-up")
    subset.add_argument("--clip-norm", type=float, default=SUBSET["clip_norm"], help="largest gradient norm")


def reproduce(arguments: argparse.Namespace) -> int:
    """The command itself; returns the exit code."""
    arguments.results = results = arguments.results or Path("build") / arguments.profile / "results"
    _check_options(arguments)
    check_output(results, folder=True)
    if arguments.prepare:
        print(f"images: {_images(quick_base(), arguments)}")
        return 0
    subset = _subset(arguments) if arguments.profile == "subset" else None
    tables = [TABLES[name] for name in arguments.tables]
    runs = plan.runs(arguments.profile, tables, subset)
    if arguments.run_hashes is not None:
        unknown = [run_hash for run_hash in arguments.run_hashes if run_hash not in runs]
        if unknown:
            raise ValueError(
                f"the profile {arguments.profile!r} has no run {unknown[0]!r} in the tables chosen; "
                "--list prints those it has"
            )
        runs = {run_hash: runs[run_hash] for run_hash in arguments.run_hashes}
    if arguments.list:
        print("\n".join(runs))
        return 0
    if arguments.dry_run:
        for line in _describe(runs, arguments, subset):
            print(line)
        if arguments.profile == "paper":
            print("\n".join(_hours(runs, arguments.speed)))
        return 0
    if subset is not None:
        save_subset(subset, results)
    from mambaad.engine.execution import Execution
    from mambaad.engine.run import execute

    for number, (run_hash, run) in enumerate(runs.items(), start=1):
        print(f"run {number} of {len(runs)}: {run_hash} ({_summary(run)})", file=sys.stderr)
        execute(
            run,
            results,
            profile=arguments.profile,
            data_root=_images(run, arguments),
            encoder_file=arguments.encoder_file,
            execution=Execution(device=arguments.device, threads=arguments.threads),
        )
    return 0


def _check_options(arguments: argparse.Namespace) -> None:
    """Raise ValueError for options that the profile would ignore."""
    given = [name for name, default in SUBSET.items() if getattr(arguments, name) != default]
    if arguments.profile != "subset" and given:
        raise ValueError(f"--{given[0].replace('_', '-')} is of the profile subset, not of {arguments.profile}")
    if arguments.profile == "subset" and arguments.data_dir is None and given:
        raise ValueError(f"--{given[0].replace('_', '-')} needs --data-dir; a study that goes on has its settings")
    if arguments.speed is not None and not (arguments.profile == "paper" and arguments.dry_run):
        raise ValueError("--speed is for --profile paper --dry-run, which estimates hours")
    if arguments.prepare and arguments.profile != "quick":
        raise ValueError(f"--prepare draws the synthetic images of the profile quick; {arguments.profile} has none")


def _images(run: RunConfig, arguments: argparse.Namespace) -> Path:
    """Root of a run's images; the synthetic set is drawn if it is not there."""
    from mambaad.data.synthetic.generate import write_synthetic

    data = run.data
    if data.dataset == "synthetic":
        root = arguments.data_dir or arguments.results.parent / "data"
        return write_synthetic(
            root, side=data.side, seed=data.synthetic_seed, train=data.synthetic_train, test=data.synthetic_test
        )
    if arguments.data_dir is None:
        raise ValueError(f"the profile {arguments.profile!r} needs --data-dir, the root of the images")
    return arguments.data_dir if arguments.profile == "subset" else arguments.data_dir / data.dataset


def _subset(arguments: argparse.Namespace) -> SubsetOptions:
    """The subset study: as it was started in this results folder, or as the options say."""
    import dataclasses

    from mambaad.data import load_dataset
    from mambaad.data.contents import CONTENT_CACHE, contents_hash
    from mambaad.model.encoder_weights import weights_file_name
    from mambaad.study.profiles import QUICK_TRAIN

    if arguments.data_dir is None:
        try:
            return load_subset(arguments.results)
        except FileNotFoundError as error:
            raise ValueError("the profile 'subset' starts with --data-dir, the root of the images") from error
    if arguments.encoder_file and not arguments.backbone:
        raise ValueError("--encoder-file needs --backbone, the timm model name of its network")
    samples = load_dataset(arguments.dataset, arguments.data_dir, arguments.categories)
    return SubsetOptions(
        dataset=arguments.dataset,
        categories=tuple(arguments.categories),
        index_hash=contents_hash(samples, arguments.data_dir, arguments.results / CONTENT_CACHE),
        side=arguments.side,
        encoder_weights=weights_file_name(arguments.encoder_file) if arguments.encoder_file else "embedded",
        backbone=arguments.backbone,
        backbone_kwargs={"pad_type": arguments.pad_type} if arguments.pad_type else {},
        mean=tuple(arguments.mean) if arguments.mean else None,
        std=tuple(arguments.std) if arguments.std else None,
        depths=tuple(arguments.depths),
        train=dataclasses.replace(
            QUICK_TRAIN,
            steps=None,
            epochs=arguments.epochs,
            batch_size=arguments.batch_size,
            lr=arguments.lr,
            warmup_steps=arguments.warmup_steps,
            clip_norm=arguments.clip_norm,
        ),
    )


def _describe(runs: Mapping[str, RunConfig], arguments: argparse.Namespace, subset: SubsetOptions | None) -> list[str]:
    """One line for every run: hash, whether its record is there, the table rows it serves, its settings."""
    uses: dict[str, list[str]] = {}
    for table in (TABLES[name] for name in arguments.tables):
        for row in plan.rows(table, arguments.profile, subset):
            if row.run is not None:
                uses.setdefault(row.run.hash, []).append(f"table {table.number}")
    lines = []
    for run_hash, run in runs.items():
        done = "done" if record_path(arguments.results, arguments.profile, run_hash).is_file() else "to do"
        lines.append(f"{run_hash}  {done:5}  {', '.join(dict.fromkeys(uses[run_hash]))}: {_summary(run)}")
    return [*lines, f"{len(runs)} runs"]


def _hours(runs: Mapping[str, RunConfig], speed: float | None) -> list[str]:
    """What the runs would cost, one line each and the sum."""
    from mambaad.study.cost import CARDS, costs, makespan, measured_step

    if speed is None:
        measured = measured_step()
        speed, source = 1 / measured.seconds_per_image, f"measured on {measured.device}"
    elif speed > 0:
        source = "as given"
    else:
        raise ValueError(f"--speed must be positive, got {speed}: images per second in training")
    hours = [cost.hours(1 / speed) for cost in costs(runs.values(), plan.main_run("paper"))]
    lines = [f"\nhours at {speed:.3g} training images per second of the main model ({source}), by FLOPs:"]
    lines += [f"{run_hash}  {own:10,.1f} h" for run_hash, own in zip(runs, hours, strict=True)]
    days = ", ".join(f"{makespan(hours, number) / 24:,.1f} days on {number}" for number in CARDS)
    return [*lines, f"{sum(hours):,.0f} h in all; one run per machine or card: {days}"]


def _summary(run: RunConfig) -> str:
    model, train = run.model, run.train
    length = f"{train.steps} steps" if train.steps else f"{train.epochs} epochs"
    data = f"{run.data.dataset} at {run.data.side} px, {model.backbone} ({run.encoder_weights})"
    if not isinstance(model, ModelConfig):
        return f"{data}, {model.method}, {length}"
    return (
        f"{data}, depths {model.depths}, branches {model.branches}, kernels {model.local_kernels}, "
        f"scan {model.scan_text}, {length}"
    )

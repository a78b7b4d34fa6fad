"""`mambaad data check`, `where` and `tile`: validate a data set, where it comes from, and tiles to train on."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from mambaad.cli.options import AddCommand
from mambaad.data.datasets.catalog import DATASETS


def add(command: AddCommand) -> None:
    """Add the command with its three parts."""
    data = command("data", _check, "check a data set on disk, or tell where to get one")
    parts = data.add_subparsers(dest="part", required=True)

    text = "open every file of a data set, compare its counts with the published ones; exit code 0 if it is whole"
    check = parts.add_parser("check", help=text, description=text, formatter_class=data.formatter_class)
    check.set_defaults(run=_check)
    check.add_argument("root", type=Path, help="root folder of the data set")
    check.add_argument("--dataset", choices=list(DATASETS), help="its layout (not given: recognised from the files)")
    check.add_argument("--categories", nargs="+", default=[], help="categories to check (none named: all of them)")
    check.add_argument("--quick", action="store_true", help="read the files' headers only, without decoding them")
    check.add_argument("--json", action="store_true", help="print JSON")

    text = "where to get a data set, its licence, and how it lies on disk; downloads nothing"
    where = parts.add_parser("where", help=text, description=text, formatter_class=data.formatter_class)
    where.set_defaults(run=_where)
    where.add_argument("name", nargs="?", help="name of the data set (not given: all of them)")

    text = "cut photographs of good parts into overlapping tiles, to train on what `mambaad predict --tile` will see"
    tile = parts.add_parser("tile", help=text, description=text, formatter_class=data.formatter_class)
    tile.set_defaults(run=_tile)
    tile.add_argument("root", type=Path, help="folder with train/good, or of photographs alone")
    tile.add_argument("--out", type=Path, required=True, help="folder to write; its train/good holds the tiles")
    tile.add_argument("--tile", type=int, required=True, help="side of a tile in the photographs' pixels")
    tile.add_argument("--overlap", type=float, default=0.25, help="share of a tile that the next one overlaps")


def _check(arguments: argparse.Namespace) -> int:
    from mambaad.data.validate import check_dataset
    from mambaad.data.validate_text import render

    report = check_dataset(arguments.dataset, arguments.root, arguments.categories, quick=arguments.quick)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(report) | {"ok": report.ok}, indent=1))
    else:
        print(render(report))
    return 0 if report.ok else 1


def _where(arguments: argparse.Namespace) -> int:
    from mambaad.data.detect import where

    print(where(arguments.name))
    return 0


def _tile(arguments: argparse.Namespace) -> int:
    from mambaad.data.tiles import Tiling, write_tiles

    count = write_tiles(arguments.root, arguments.out, Tiling(arguments.tile, arguments.overlap))
    print(f"{count} tiles of {arguments.tile} pixels: {arguments.out / 'train' / 'good'}")
    return 0

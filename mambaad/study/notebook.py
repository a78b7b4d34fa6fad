"""What every notebook begins with: a check of its parameters.

    # %% tags=["parameters"]
    profile: str = "quick"  # quick, subset or paper
    results: str = "results"  # folder of records and tables, relative to the repository

    # %%
    given = check_parameters(globals(), profile=PROFILES, results=str)

papermill only prints a line when it is given a name that the notebook does not have, and goes on with the defaults;
here such a name is an error, as is a value that is not among the allowed ones or not of the type wanted.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd

from mambaad.engine.records import find_record
from mambaad.engine.run import execute
from mambaad.study import noise_floor, plan, tables
from mambaad.study.profiles import SubsetOptions, load_subset
from mambaad.study.published_numbers import repository_root
from mambaad.study.tables_spec import Table

MODES = ("report", "run")
PAPERMILL_COMMENT = "# Parameters"


class ParameterError(ValueError):
    """A notebook parameter that does not exist or has a value that is not allowed."""


def check_parameters(namespace: Mapping[str, Any], **allowed: Any) -> SimpleNamespace:
    """The notebook's parameters, once they are found right.

    Args:
        namespace: the notebook's `globals()`; with the history of executed cells that IPython keeps there as `In`.
        allowed: for each parameter the tuple of its values, or its type (an int passes for a float, True for neither).

    Returns:
        The parameters as attributes.

    Raises:
        ParameterError: a parameter is unknown, missing, or has a wrong value; the message names what is allowed.
    """
    unknown = sorted(injected_names(namespace.get("In", ())) - set(allowed))
    if unknown:
        raise ParameterError(
            f"unknown parameter{'s' if len(unknown) > 1 else ''} {', '.join(unknown)}; "
            f"this notebook has {', '.join(allowed)}"
        )
    for name, rule in allowed.items():
        if name not in namespace:
            raise ParameterError(f"the parameter {name} is missing: the parameters cell has to define it")
        _check_value(name, namespace[name], rule)
    return SimpleNamespace(**{name: namespace[name] for name in allowed})


def _check_value(name: str, value: Any, rule: Any) -> None:
    if isinstance(rule, tuple):
        if not any(value == choice and type(value) is type(choice) for choice in rule):
            raise ParameterError(f"{name} must be one of {', '.join(map(repr, rule))}; got {value!r}")
    elif isinstance(rule, type):
        fits = isinstance(value, (int, float) if rule is float else rule)
        if not fits or (isinstance(value, bool) and rule is not bool):
            raise ParameterError(f"{name} must be of type {rule.__name__}; got {value!r}, a {type(value).__name__}")
    else:
        raise TypeError(f"the rule for {name} must be a tuple of values or a type, got {rule!r}")


def injected_names(cells: Iterable[str]) -> set[str]:
    """Names assigned in the cells that papermill injected; they begin with its comment line "# Parameters"."""
    names: set[str] = set()
    for source in cells:
        if source.lstrip().partition("\n")[0].strip() == PAPERMILL_COMMENT:
            assignments = (node for node in ast.parse(source).body if isinstance(node, ast.Assign))
            names |= {
                n.id for node in assignments for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)
            }
    return names


def results_folder(results: str) -> Path:
    """The folder of records and tables: as given if absolute, else below the repository's root, wherever the
    notebook runs."""
    path = Path(results).expanduser()
    return path if path.is_absolute() else repository_root() / path


def table_from(table: Table, given: SimpleNamespace) -> pd.DataFrame:
    """A table from the records there are; with mode "run" the runs without a record come first.

    Args:
        table: one of `tables_spec.TABLES`.
        given: the parameters profile, mode, results, data_root (images of the subset, or the folder with a folder of
            each of the paper's data sets; the quick profile draws its own) and encoder_file (subset only).

    Raises:
        FileNotFoundError: the subset profile without its options in the results folder.
        DatasetError, EncoderWeightsError: mode "run" without the images or weights it needs.
    """
    results, subset = results_folder(given.results), _subset(given)
    missing = tables.missing_runs(table, given.profile, results, subset)
    if missing and given.mode != "run":
        print(
            f"{len(missing)} of {len(plan.runs(given.profile, [table], subset))} runs have no record in "
            f"{given.results}/runs yet: {', '.join(missing)}.\n"
            f'They are made by this notebook with mode "run", or by: '
            f"mambaad reproduce --profile {given.profile} --tables {table.name} --results {given.results}"
        )
        missing = {}
    for run in missing.values():
        root = Path(given.data_root) if given.data_root else None
        if root is not None and given.profile == "paper":
            root = root / run.data.dataset
        execute(run, results, profile=given.profile, data_root=root, encoder_file=given.encoder_file or None)
        if given.profile == "quick" and (words := noise_floor.against_committed(run.hash, results)):
            print(words)
    return tables.build_table(table, given.profile, results, subset=subset)


def loss_of_rows(table: Table, given: SimpleNamespace) -> dict[str, list[list[float]]]:
    """Recorded loss curves of a table's rows by row name, each run once; rows without a record are left out."""
    results = results_folder(given.results)
    curves: dict[str, list[list[float]]] = {}
    seen: set[str] = set()
    for row in plan.rows(table, given.profile, _subset(given)):
        if row.run is None or row.run.hash in seen:
            continue
        seen.add(row.run.hash)
        record = find_record(results, row.run.hash)
        if record is not None and record["train"]["loss"]:  # the memory bank has none
            curves[table.row_name(row.labels)] = record["train"]["loss"]
    return curves


def _subset(given: SimpleNamespace) -> SubsetOptions | None:
    return load_subset(results_folder(given.results)) if given.profile == "subset" else None


def published_folder(folder: str) -> Path:
    """The folder of the published numbers, resolved as by `results_folder`.

    Raises:
        ParameterError: it does not hold them.
    """
    path = results_folder(folder)
    if not (path / "main_results.csv").is_file():
        raise ParameterError(
            f"{folder!r} does not hold the published numbers (no main_results.csv); try 'results/paper'"
        )
    return path

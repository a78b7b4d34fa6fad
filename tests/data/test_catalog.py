"""The list of data sets: its counts against the papers', its names, and that reading it costs nothing."""

import subprocess
import sys

import pytest

from mambaad.data import DATASETS, DatasetError
from mambaad.data.datasets.catalog import COCO_AD, PAPER_DATASETS, dataset_named
from mambaad.data.datasets.real_v1 import FOLDERS
from mambaad.data.datasets.spec import DatasetSpec
from mambaad.study.published_numbers import load


@pytest.mark.parametrize("spec", DATASETS.values(), ids=lambda spec: spec.name)
def test_every_entry_has_its_loader_and_adds_up(spec: DatasetSpec) -> None:
    assert callable(spec.find_loader())
    assert (spec.total is None) == (not spec.categories)
    known = [row for row in spec.categories.values() if row is not None]
    if known and len(known) == len(spec.categories):
        assert tuple(map(sum, zip(*known, strict=True))) == spec.total
    assert spec.layout
    assert spec.licence


def test_totals_are_those_the_papers_print() -> None:
    totals = {name: spec.total for name, spec in DATASETS.items() if spec.total is not None}
    assert (totals["mvtec_ad"][0], sum(totals["mvtec_ad"][1:])) == (3629, 1725)
    assert (sum(totals["visa"]), totals["visa"][2]) == (10821, 1200)
    assert (sum(totals["realiad"][:2]), totals["realiad"][2]) == (99721, 51329)
    # every split of COCO-AD tests on the same images: those of val2017 that have annotations
    assert len({good + bad for _, good, bad in (totals[spec.name] for spec in COCO_AD)}) == 1


def test_categories_are_those_of_the_paper_s_tables() -> None:
    printed = load("per_category")
    assert list(PAPER_DATASETS) == list(dict.fromkeys(load("main_results")["dataset"]))
    for name, specs in PAPER_DATASETS.items():
        theirs = set(printed[printed["dataset"] == name]["category"]) - {"mean"}
        if len(specs) == 1:
            assert set(specs[0].categories) == theirs
        else:
            assert {spec.paper_category for spec in specs} == theirs


def test_real_v1_has_the_categories_of_its_loader() -> None:
    assert list(DATASETS["real_v1"].categories) == list(FOLDERS)


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(DatasetError, match="no data set 'mvtec'; there are mvtec_ad, visa, realiad"):
        dataset_named("mvtec")


def test_the_list_needs_no_arrays() -> None:
    code = (
        "import sys; from mambaad.data.datasets.catalog import DATASETS; DATASETS['visa'].licence;"
        "print(sorted({'torch', 'numpy', 'PIL', 'pandas', 'mambaad.data.datasets.visa'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""The explaining notebooks and the page of real images run, and what their prose says is so."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupytext
import matplotlib as mpl
import numpy as np
import pytest
import torch

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    """The notebooks set the style of plots and the threads of torch."""
    threads = torch.get_num_threads()
    with mpl.rc_context():
        yield
    torch.set_num_threads(threads)


def run_cells(stem: str, **parameters: Any) -> dict[str, Any]:
    """The notebook's code cells one after the other, in this process."""
    namespace: dict[str, Any] = {}
    path = NOTEBOOKS / f"{stem}.py"
    for cell in jupytext.read(path).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, str(path), "exec"), namespace)
        if "parameters" in cell.metadata.get("tags", []):
            namespace.update(parameters)
    return namespace


def test_image_to_verdict() -> None:
    page = run_cells("00_image_to_verdict")
    repaired = page["repaired"]
    seen, twin, good = (repaired[column] for column in repaired.columns[1:])
    assert (twin < seen).all()  # what was rebuilt resembles the good twin more than the image
    assert (good < seen / 2).all()
    assert page["verdict"] == "defective"
    assert page["example"].mask[page["highest"]]  # the largest value lies on the defect
    assert page["prediction"].score[1] < page["threshold"]
    assert 0 < page["local"] < len(page["misses"])  # some are seen at a stride and lost in the sum, some are not
    assert page["last"]["twin"] < page["threshold"] < 0.5 * page["last"]["image"]  # what training leaves is the defect
    assert page["first"]["twin"] > 0.9 * page["first"]["image"]


def test_selective_scan() -> None:
    page = run_cells("01_selective_scan")
    assert torch.allclose(page["exact_rule"], page["solver"], atol=1e-8)  # zero-order hold = the differential equation
    assert (page["code_rule"] - page["solver"]).abs().max() > 0.1
    assert torch.allclose(page["by_recurrence"], page["by_convolution"], atol=1e-12)
    marks, u, held = page["marks"], page["u"], page["states"]["selective"]
    for mark, end in zip(marks, [*marks[1:], len(u)], strict=True):
        assert (held[mark:end] - u[mark]).abs().max() < 0.15
    assert (page["states"]["constant, small"][marks] - u[marks]).abs().min() > 0.5
    spread = page["spread"]
    assert min(spread["trained"]) > 10 * max(spread["untrained"])  # selection is learnt
    assert (page["defect_change"]["median"] - 1).abs().max() < 0.02  # and no detector of defects
    small, medium, large = page["curves"].values()
    assert small[256] / small[1] > medium[256] / medium[1] > large[256] / large[1]
    assert page["kept_mb"]["reference"][-1] > 4 * page["kept_mb"]["chunked"][-1]


def test_hybrid_scan() -> None:
    page = run_cells("02_hybrid_scan", side=32)
    measured = {line[0]: line[1:] for line in page["measured"]}
    assert measured["hilbert"][1] == measured["scan"][1] == 1  # never jump
    assert measured["hilbert"][2] > measured["sweep"][2]  # and yet part neighbours further, on average
    assert (page["best_gaps"]("sweep", 8) == 1).all()
    weights, near = page["weights"], page["near"]
    share = {m: [float((w := weights(m, k, 16))[near].sum() / w.sum()) for k in (2, 8)] for m in ("sweep", "hilbert")}
    for two, eight in share.values():
        assert two == pytest.approx(eight, rel=1e-3)  # more routes do not make the scan more local
    assert share["hilbert"][0] > 1.5 * share["sweep"][0]


def test_measuring() -> None:
    page = run_cells("04_measuring")
    exact, paper = (np.array(page["story"][protocol]) for protocol in ("exact", "paper"))
    assert np.ptp(exact) < 0.1  # one pixel does not move what depends on the order alone
    assert np.nanmax(paper) - np.nanmin(paper) > 10  # and moves the grid
    before, after = page["eight"].drop(columns="eight maps").to_numpy()
    assert abs(before - after)[[0, 1, 2, 4]].max() < 0.5
    assert len(page["stored"]["cases"]) == 8


def test_network() -> None:
    page = run_cells("03_mambaad", steps=3)
    assert page["counted"].params_m == pytest.approx(25.655, abs=5e-4)
    watched = sum(page["seen"][box]["parameters (M)"].sum() for box in ("encoder", "fusion", "decoder"))
    assert watched + page["counted"].table_params_m == pytest.approx(page["counted"].params_m)
    assert page["seen"]["decoder"]["output"].iloc[-1] == "64 × 64 × 64"
    costs = page["costs"].set_index("box")
    flops = costs["FLOPs (10⁹)"].filter(like="decoder")
    assert costs["parameters (M)"].drop(["sum", "printed in the paper"]).idxmax() == "decoder, stride 32"
    assert flops.idxmin() == "decoder, stride 32"
    assert [step for step, _ in page["result"].loss] == [1, 2, 3]
    assert np.isfinite([value for row in page["rows"] for value in row[1:]]).all()
    assert not Path(page["root"]).exists()


def test_benchmarks_without_a_record(tmp_path: Path) -> None:
    page = run_cells("benchmarks", source=str(tmp_path))
    assert not any(page["suites"].values())
    assert page["sentences"] == []


def test_benchmarks_with_the_committed_records() -> None:
    page = run_cells("benchmarks")
    timed = {"scan", "stages", "model", "scaling", "metrics", "exports", "training", "step_before"}
    assert set(page["suites"]) == timed
    assert all("cpu" in found for found in page["suites"].values())
    assert len(page["sentences"]) == 2  # two passes
    rows = page["suites"]["scan"]["cpu"][0].set_index(["form", "pass"])
    ratio = rows.loc[("chunked", "forward"), "median_ms"] / rows.loc[("native", "forward"), "median_ms"]
    assert any(f"{ratio:.0f} times as fast as chunked" in sentence for sentence in page["sentences"])

"""The scripts of the interactive figures compute what the library computes."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mambaad.config import SCAN_METHODS
from mambaad.metrics import evaluate
from mambaad.model.routes import hybrid_routes, method_routes
from mambaad.model.scan_order import POWER_OF_TWO_ONLY, scan_order
from mambaad.ops.selective_scan.naive import selective_scan_reference
from mambaad.study.evidence.forest import Line, _axis
from mambaad.study.evidence.statistics import Estimate
from mambaad.study.table_html import signed, signed_end

LIVE = Path(__file__).parents[2] / "book" / "extra" / "live"
SCRIPTS = sorted(LIVE.glob("*.js"))
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs node, to run the scripts of the book")


def in_node(script: str, expression: str) -> Any:
    """The value of a JavaScript expression over the script's functions, `core`."""
    code = f"const core = require({json.dumps(str(LIVE / script))}); console.log(JSON.stringify({expression}))"
    done = subprocess.run(["node", "-e", code], capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_small_and_load_nothing(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) <= 40_000
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|\bimport\b|fetch\(", text)


@needs_node
def test_orders_are_those_of_the_library() -> None:
    sides = {m: (4, 8, 16, 32) if m in POWER_OF_TWO_ONLY else (4, 6, 8, 12, 16, 24, 32) for m in SCAN_METHODS}
    asked = [(method, side) for method, several in sides.items() for side in several]
    found = in_node("scan-paths.js", f"{json.dumps(asked)}.map(([m, s]) => core.ORDERS[m](s))")
    for (method, side), order in zip(asked, found, strict=True):
        assert order == scan_order(method, side).tolist(), (method, side)


@needs_node
def test_routes_are_those_of_the_library() -> None:
    asked = [(m, k, 8) for m in SCAN_METHODS for k in (2, 4, 8)]
    found = in_node("scan-paths.js", f"{json.dumps(asked)}.map((given) => core.routes(...given))")
    for given, routes in zip(asked, found, strict=True):
        assert routes == method_routes(*given).tolist(), given
    mixed = (("sweep", 2), ("scan", 2), ("hilbert", 4))
    assert in_node("scan-paths.js", f"core.hybrid({json.dumps(mixed)}, 8)") == hybrid_routes(mixed, 8).tolist()


@needs_node
def test_influence_and_gaps_follow_from_the_routes() -> None:
    allSteps = "core.routes('hilbert', 8, 8).map(core.stepsOf)"
    steps = method_routes("hilbert", 8, 8).argsort(dim=1).double()
    later = steps - steps[:, 27:28]
    expected = torch.where(later > 0, torch.exp(-later / 5), torch.zeros(())).sum(0)
    found = in_node("scan-paths.js", f"core.influence({allSteps}, 27, 5)")
    assert torch.allclose(torch.tensor(found, dtype=torch.float64), expected)
    grid = steps.view(8, 8, 8)
    nearest = [*grid.diff(dim=1).abs().amin(0).flatten().tolist(), *grid.diff(dim=2).abs().amin(0).flatten().tolist()]
    assert sorted(in_node("scan-paths.js", f"core.gaps({allSteps}, 8)")) == sorted(nearest)


@needs_node
@pytest.mark.parametrize("rule", ["code", "hold"])
def test_memory_machine_is_the_selective_scan(rule: str) -> None:
    L, N = 24, 4
    draws = torch.Generator().manual_seed(1)
    u = torch.randn(L, generator=draws, dtype=torch.float64)
    delta = torch.rand(L, generator=draws, dtype=torch.float64) + 0.01
    given = f"{json.dumps(delta.tolist())}, {N}, '{rule}'"
    found = in_node("memory-machine.js", f"core.scan({json.dumps(u.tolist())}, {given}).y")
    matrix = torch.tensor(in_node("memory-machine.js", f"core.matrix({given})"), dtype=torch.float64)

    A = -torch.arange(1, N + 1, dtype=torch.float64)
    # the library writes δB; the exact rule is the same with B multiplied by (1 - exp(δA)) / (-δA)
    factor = torch.ones(L, N) if rule == "code" else -torch.expm1(delta[:, None] * A) / (-delta[:, None] * A)
    zero = torch.zeros(1, 1, dtype=torch.float64)
    expected = selective_scan_reference(
        u.view(1, 1, 1, L),
        torch.log(torch.expm1(delta)).view(1, 1, 1, L),
        A.view(1, 1, N),
        factor.T.double()[None, None],
        torch.full((1, 1, N, L), 1 / N, dtype=torch.float64),
        zero,
        zero,
    ).flatten()
    assert torch.allclose(torch.tensor(found, dtype=torch.float64), expected, atol=1e-10)
    assert torch.allclose(matrix @ u, expected, atol=1e-10)
    assert (matrix.triu(1) == 0).all()


@needs_node
def test_a_constant_step_makes_the_matrix_toeplitz() -> None:
    matrix = torch.tensor(in_node("memory-machine.js", "core.matrix(new Array(24).fill(0.3), 3, 'code')"))
    assert torch.allclose(matrix[1:, 1:], matrix[:-1, :-1])
    varied = in_node(
        "memory-machine.js", "core.matrix([...new Array(12).fill(0.3), 2, ...new Array(11).fill(0.3)], 3, 'code')"
    )
    varied = torch.tensor(varied)
    assert not torch.allclose(varied[1:, 1:], varied[:-1, :-1])


@needs_node
@pytest.mark.parametrize("outlier", [False, True])
def test_threshold_bench_has_the_metrics_of_the_library(outlier: bool) -> None:
    draws = np.random.default_rng(3)
    masks = np.zeros((3, 24, 24), dtype=bool)
    masks[0, 3:9, 4:8] = masks[0, 15:18, 15:22] = masks[1, 10:13, 1:20] = True
    masks[1, 13, 20] = True  # touches the region at a corner only
    maps = np.round(1000 * (draws.random(masks.shape) + 0.6 * masks))
    if outlier:
        maps[2, 0, 0] = 7001
    given = f"{json.dumps(maps.reshape(3, -1).tolist())}, {json.dumps(masks.reshape(3, -1).astype(int).tolist())}, 24"
    names = ("auroc", "averagePrecision", "f1max", "f1Grid", "auproExact", "auproPaper")
    found = in_node(
        "threshold-bench.js", f"((L) => [{', '.join(f'core.{n}(L)' for n in names)}])(core.levels({given}))"
    )
    exact, paper = (evaluate(maps, masks, protocol=protocol) for protocol in ("exact", "paper"))
    expected = [exact[f"pixel_{n}"] for n in ("auroc", "ap", "f1max")]
    expected += [paper["pixel_f1max"], exact["pixel_aupro"], paper["pixel_aupro"]]
    assert 100 * np.array(found) == pytest.approx(expected, rel=1e-6)


@needs_node
def test_the_explorers_axis_is_that_of_the_still_plot() -> None:
    estimate = Estimate(-1.2, -2.3, 0.4, 5, 1.0, 0.2)
    line = Line("a row", estimate, ((0, -2.6, "hash"), (1, 0.9, "hash")))
    low, high, ticks = _axis([line])
    found = in_node("forest-explorer.js", "core.axis([-1.2, -2.3, 0.4, null, -2.6, 0.9])")
    assert found == {"low": pytest.approx(low), "high": pytest.approx(high), "ticks": ticks, "places": 0}


@needs_node
def test_differences_have_the_signs_of_the_tables() -> None:
    values = [0.04, -0.04, 0.06, -1.26, 12.0]
    assert in_node("forest-explorer.js", f"{values}.map((v) => core.signed(v))") == [signed(v, 1) for v in values]


@needs_node
def test_ends_of_intervals_show_their_side_of_zero() -> None:
    values = [0.04, -0.04, 0.0, -0.9, 0.0004, -1e-9]
    found = in_node("forest-explorer.js", f"{values}.map((v) => core.signedEnd(v))")
    assert found == [signed_end(v) for v in values]
    assert found[:5] == ["+0.04", "−0.04", "0.0", "−0.9", "+0.0004"]

"""What the paper profile would cost: steps from published counts, hours from a measured step."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mambaad import cli
from mambaad.config import DataConfig, RunConfig, TrainConfig
from mambaad.study import plan
from mambaad.study.cost import CARDS, Cost, costs, makespan, measured_step, totals
from mambaad.study.published_numbers import repository_root
from mambaad.study.tables_spec import TABLE_6


def test_steps_and_work_of_the_main_run_are_those_of_the_published_counts() -> None:
    main = plan.main_run("paper")
    half = RunConfig(model=main.model, data=DataConfig(dataset="mvtec_ad", side=128), train=TrainConfig(epochs=2))
    whole, small = costs([main, half], main)
    assert whole == Cost(steps=500 * (3629 // 16), images=500 * (3629 // 16) * 16, relative=1.0)
    assert small.steps == 2 * (3629 // 16)
    assert small.relative == pytest.approx(1 / 4, rel=0.01)  # a quarter of the pixels
    assert whole.hours(0.5) == pytest.approx(whole.images / 7200)


def test_a_data_set_without_counts_is_refused() -> None:
    main = plan.main_run("paper")
    with pytest.raises(ValueError, match="'folder' has no published counts"):
        costs([RunConfig(data=DataConfig(dataset="folder"))], main)


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=30), st.integers(1, 40))
def test_the_last_run_ends_between_the_bounds_of_scheduling(hours: list[float], machines: int) -> None:
    found = makespan(hours, machines)
    share = sum(hours) / machines
    assert max(share, *hours, 0) - 1e-9 <= found <= share + max(hours) + 1e-9
    assert makespan(hours, 1) == pytest.approx(sum(hours))
    with pytest.raises(ValueError, match="at least 1"):
        makespan(hours, 0)


def test_twice_the_speed_takes_half_the_time() -> None:
    slow, fast = totals([Cost(10, 10**7, 1.0), Cost(10, 3 * 10**7, 0.5)], [10, 20]).to_dict("records")
    assert list(slow) == ["images per second and card", "card days", *(f"days on {number}" for number in CARDS)]
    assert slow["card days"] == pytest.approx(2 * fast["card days"], abs=0.11)


def test_a_machine_without_a_compiler_has_a_measured_step_too(tmp_path: Path) -> None:
    committed = repository_root() / "results" / "benchmarks"
    (tmp_path / "model_cpu.json").write_bytes((committed / "model_cpu.json").read_bytes())
    head, *lines = (committed / "model_cpu.csv").read_text().splitlines()
    others = [line for line in lines if ",native," not in line]
    assert len(others) == 4
    (tmp_path / "model_cpu.csv").write_text("\n".join([head, *others]))
    assert measured_step(tmp_path).seconds_per_image > measured_step().seconds_per_image
    (tmp_path / "model_cpu.csv").write_text("\n".join([head, *(x for x in others if x.startswith("forward"))]))
    with pytest.raises(ValueError, match="has no training step: measure it again"):
        measured_step(tmp_path)


def test_the_dry_run_says_hours_and_where_they_come_from(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["reproduce", "--profile", "paper", "--tables", TABLE_6.name, "--dry-run"]
    assert cli.main(words) == 0
    assert f"measured on {measured_step().device}" in capsys.readouterr().out
    assert cli.main([*words, "--speed", "100"]) == 0
    printed = capsys.readouterr().out
    (cost,) = costs(plan.runs("paper", [TABLE_6]).values(), plan.main_run("paper"))
    assert f"{cost.hours(0.01):,.0f} h in all" in printed
    assert "(as given)" in printed
    assert cli.main([*words, "--speed", "0"]) == 2

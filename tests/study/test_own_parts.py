"""The page on the preset `laptop`: its numbers are those of the records, and every record is of the committed kind."""

import hashlib
import json
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch

from mambaad.config import ModelConfig, preset, run_config_from_dict
from mambaad.config.methods import MambaADBankConfig
from mambaad.model import MambaAD
from mambaad.study import own_parts
from mambaad.study.evidence import sensitivity

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "results" / own_parts.FOLDER
COMMITTED = sorted(RECORDS.glob("*.json"))
TRAININGS = sorted((RECORDS / own_parts.TRAINING).glob("*.json"))
UNSEEN = sorted((RECORDS / own_parts.UNSEEN).glob("*.json"))
CALLS = sorted((RECORDS / own_parts.DEFAULTS).glob("*.json"))


def write(folder: Path, category: str, seed: int, values: dict[str, tuple[float, float]]) -> None:
    metrics = {name: {"mad": mad, "pixel_aupro": aupro} for name, (mad, aupro) in values.items()}
    content = {"category": category, "seed": seed, "metrics": metrics}
    (folder / f"{category}_{seed}.json").write_text(json.dumps(content))


def test_the_page_shows_means_over_seeds_of_the_records(tmp_path: Path) -> None:
    assert "No records yet" in own_parts.page(tmp_path)
    for category, seed, mad in (("nut", 0, 50.0), ("nut", 1, 60.0), ("bolt", 0, 70.0)):
        write(tmp_path, category, seed, {"other": (mad, 80.0)})
    lines = own_parts.page(tmp_path).splitlines()
    assert lines[2] == "| map | bolt (seeds: 1) | nut (seeds: 2) | mean |"
    assert lines[4].replace("\u00a0", " ") == "| other | 70 / 80 | 55 / 80 | 62 / 80 |"


def test_categories_with_the_same_seeds_say_so_once(tmp_path: Path) -> None:
    for category in ("nut", "bolt"):
        for seed in (0, 1):
            write(tmp_path, category, seed, {"other": (50.0, 80.0)})
    lines = own_parts.page(tmp_path).splitlines()
    assert lines[0] == "mAD / AU-PRO in percent, protocol `exact`, means over 2 seeds:"
    assert lines[2] == "| map | bolt | nut | mean |"


def test_the_preset_is_compared_with_the_bank_seed_by_seed(tmp_path: Path) -> None:
    for category, seed, gain in (("nut", 0, 1.0), ("nut", 1, 3.0), ("bolt", 0, -2.0)):
        write(tmp_path, category, seed, {own_parts.PRESET: (60 + gain, 80 - gain), own_parts.BANK: (60, 80)})
    text = own_parts.page(tmp_path)
    assert "Of 3 pairs of a category and a seed it is ahead in 2 in mAD and in 1 in AU-PRO." in text
    assert "| nut | 2 | +2.0 (+1.0 to +3.0) | −2.0 (−3.0 to −1.0) |" in text
    assert "| bolt | 1 | −2 | +2 |" in text
    assert "| **cosine + euclidean + 4 × bank 256** (the preset) | 58 / 82 | 62 / 78 | 60 / 80 |" in text.replace(
        "\u00a0", " "
    )


def test_a_category_has_no_part_in_the_choice_of_its_own_map(tmp_path: Path) -> None:
    """Each map is far the best on one category: that category must not get it."""
    for category, best in (("nut", "a"), ("bolt", "b"), ("pin", "b"), ("cap", "b")):
        values = {name: (90.0 if name == best else 60.0, 80.0) for name in ("a", "b")}
        write(tmp_path, category, 0, {**values, own_parts.BANK: (70.0, 75.0)})
    text = own_parts.page(tmp_path)
    assert "| nut | b | −10.0 | +5.0 |" in text
    assert "| bolt | b | +20.0 | +5.0 |" in text
    assert "It is ahead in 3 of 4 in mAD and 4 of 4 in AU-PRO." in text


def test_unseen_surfaces_compare_calls_of_the_same_seed(tmp_path: Path) -> None:
    write(tmp_path, "nut", 0, {"other": (50.0, 80.0)})
    (tmp_path / own_parts.UNSEEN).mkdir()

    def calls(*mads: float) -> dict[str, Any]:
        return {str(seed): {"metrics": {"mad": mad, "pixel_aupro": 2 * mad}} for seed, mad in enumerate(mads)}

    recipes = {own_parts.WITHOUT: calls(41.0, 38.0, 10.0), own_parts.BANK_ALONE: calls(40.0, 40.0)}
    (tmp_path / own_parts.UNSEEN / "sand.json").write_text(json.dumps({"category": "sand", "recipes": recipes}))
    text = own_parts.page(tmp_path).replace("\u00a0", " ")
    assert "Of 2 pairs of a surface and a seed the call without any option is ahead of the bank in 1 in mAD" in text
    assert "| sand | no option | 3 | 30 / 59 | −0.5 (−2.0 to +1.0) | −1.0 (−4.0 to +2.0) |" in text
    assert "| sand | memory bank alone | 2 | 40 / 80 | – | – |" in text


def test_other_trainings_are_compared_with_the_presets_seed_by_seed(tmp_path: Path) -> None:
    (tmp_path / own_parts.TRAINING).mkdir()
    for seed, gain in ((0, 1.0), (1, -3.0)):
        write(tmp_path, "nut", seed, {own_parts.PRESET: (60, 80), own_parts.NETWORK: (40 + seed, 50)})
        metrics = {own_parts.PRESET: {"mad": 60 + gain}, own_parts.NETWORK: {"mad": 45 + seed}}
        record = {"category": "nut", "seed": seed, "changes": {"half the rate": {"metrics": metrics}}}
        (tmp_path / own_parts.TRAINING / f"nut_{seed}.json").write_text(json.dumps(record))
    text = own_parts.page(tmp_path)
    assert "points of mAD, mean over 2 seeds (lowest to highest)" in text
    assert "| training | nut, network alone | nut, preset's map |" in text
    assert "| half the rate | +5.0 (+5.0 to +5.0) | −1.0 (−3.0 to +1.0) |" in text


def test_another_loss_takes_the_place_of_the_published_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import own_parts_training as script

    features = [torch.full((1, 4, side, side), value) for side, value in ((16, 1.0), (8, 10.0), (4, 100.0))]
    model = MambaAD(ModelConfig(backbone="resnet18", depths=(1, 1, 1, 1), hss_per_lss=1, directions=2), "random")
    monkeypatch.setattr(model, "reconstruct", lambda encoded: [2 * level for level in encoded])
    expected = {"levels weigh the same in the loss": 15.0, "cosine in the loss": 0.0}
    for change in script.CHANGES:
        with script.loss_of(change):
            loss = float(model.loss_from_features(features))
        assert loss == pytest.approx(expected.get(change, 5 * (1 + 100 + 10_000)), abs=1e-5)


def test_calls_are_shown_with_their_minutes(tmp_path: Path) -> None:
    write(tmp_path, "nut", 0, {"other": (1.0, 2.0)})
    metrics = {"image_auroc": 91.2, "pixel_auroc": 81.2, "mad": 71.2, "pixel_aupro": 61.2}
    call = {"seconds": 90, "environment": {"device": "CPU Z", "threads": 2}, "metrics": metrics}
    content = {"category": "nut", "recipes": {"no option": call}}
    (tmp_path / "defaults").mkdir()
    (tmp_path / "defaults" / "nut.json").write_text(json.dumps(content))
    text = own_parts.page(tmp_path)
    assert "one seed each, on CPU Z, from start" in text
    assert "| nut | no option | 2 | 1.5 | 91 | 81 | 71 | 61 |" in text


def test_the_reading_called_the_preset_is_the_presets() -> None:
    config = preset("laptop").run.model
    assert isinstance(config, MambaADBankConfig)
    assert config.parts == ("cosine", "euclidean", "bank")
    assert f"cosine + euclidean + {2 * config.bank_share / (1 - config.bank_share):.0f} × bank 256" == own_parts.PRESET


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_a_record_is_named_by_its_settings(path: Path) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    assert run_config_from_dict(record["config"]).hash == record["hash"]
    assert path.stem == f"{record['category']}_{record['seed']}"
    assert record["metrics"].keys() == record["readings"].keys()
    assert record["environment"]["code"]["commit"]
    assert not record["environment"]["code"]["dirty"]


@pytest.mark.parametrize("path", TRAININGS, ids=lambda path: path.stem)
def test_a_record_of_trainings_differs_from_the_presets_as_it_says(path: Path) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    assert path.stem == f"{record['category']}_{record['seed']}"
    usual = run_config_from_dict(json.loads((RECORDS / path.name).read_text(encoding="utf-8"))["config"])
    for done in record["changes"].values():
        run = run_config_from_dict(done["config"])
        assert run.hash == done["hash"]
        assert (run.data, run.train.steps, run.train.seed) == (usual.data, usual.train.steps, usual.train.seed)
        assert (run != usual) != (done["loss"] != "reconstruction_loss"), "one setting at a time"
        assert done["environment"]["code"]["commit"]
        assert not done["environment"]["code"]["dirty"]


def test_other_trainings_move_the_presets_map_by_less_than_a_point_or_down() -> None:
    """As the page says of stochastic depth, the levels of the loss and the learning rate, on screw and bottle."""
    found: set[tuple[str, str]] = set()
    slower: dict[str, list[float]] = {}
    faster: dict[str, list[float]] = {}
    for path in TRAININGS:
        record, usual = (json.loads(p.read_text(encoding="utf-8")) for p in (path, RECORDS / path.name))
        for change, done in record["changes"].items():
            found.add((record["category"], change))
            gain = done["metrics"][own_parts.PRESET]["mad"] - usual["metrics"][own_parts.PRESET]["mad"]
            if change == "learning rate 0.001":
                slower.setdefault(record["category"], []).append(gain)
            else:
                assert abs(gain) < 1, (path.name, change)
            if change == "learning rate 0.005":
                faster.setdefault(record["category"], []).append(gain)
    assert max(slower["screw"]) < -0.5
    assert max(map(abs, slower["bottle"])) < 0.5
    words = "gains {:.1f} points on screw ({:.1f} to {:.1f}, three seeds)"
    said = " ".join((ROOT / "book" / "your_own_data.md").read_text(encoding="utf-8").split())
    assert words.format(fmean(faster["screw"]), min(faster["screw"]), max(faster["screw"])) in said
    assert len(faster["screw"]) == len(faster["bottle"]) == 3
    assert max(map(abs, faster["bottle"])) < 0.5
    changes = (
        "no stochastic depth",
        "levels weigh the same in the loss",
        "learning rate 0.005",
        "warm-up of 200 steps",
    )
    assert found >= {(category, change) for category in ("screw", "bottle") for change in changes}


@pytest.mark.parametrize("path", UNSEEN, ids=lambda path: path.stem)
def test_a_record_of_an_unseen_surface_names_its_photograph_options_and_code(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("skimage", reason="needs scikit-image, of the extra dev")
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import own_parts_unseen as script

    record = json.loads(path.read_text(encoding="utf-8"))
    pixels = np.floor(script.photograph(path.stem) * 255 + 0.5).astype(np.uint8)
    assert record["photograph_sha256"] == hashlib.sha256(pixels.tobytes()).hexdigest()
    for name, calls in record["recipes"].items():
        for seed, call in calls.items():
            assert call["options"][: len(script.RECIPES[name])] == script.RECIPES[name]
            assert f"--seed {seed} " in " ".join(call["options"])
            assert call["environment"]["code"]["commit"]
            assert not call["environment"]["code"]["dirty"]


def test_the_page_says_what_the_preset_is_worth_on_unseen_surfaces() -> None:
    """Other records have to change the paragraph of your_own_data.md that recommends the bank."""
    gains = {}
    for path in UNSEEN:
        recipes = json.loads(path.read_text(encoding="utf-8"))["recipes"]
        ours, bank = (recipes[name] for name in (own_parts.WITHOUT, own_parts.BANK_ALONE))
        gains[path.stem] = [ours[seed]["metrics"]["mad"] - bank[seed]["metrics"]["mad"] for seed in ours]
    assert gains.keys() == {"brick", "grass", "gravel"}
    means = {surface: fmean(own) for surface, own in gains.items()}
    words = (
        "{:.1f} points of mAD behind on brick, {:.1f} ahead on grass and {:.1f} behind on gravel, means over three "
        "seeds"
    )
    every = [gain for own in gains.values() for gain in own]
    said = " ".join((ROOT / "book" / "your_own_data.md").read_text(encoding="utf-8").split())
    assert words.format(-means["brick"], means["grass"], -means["gravel"]) in said
    assert {len(own) for own in gains.values()} == {3}
    assert f"single trainings from {-min(every):.1f} points behind to {max(every):.1f} ahead" in said


def test_the_page_says_what_other_readings_of_the_main_row_gave() -> None:
    seeds = json.loads((ROOT / "results" / "real_v1" / "sensitivity.json").read_text(encoding="utf-8"))["seeds"]
    gains = {
        reading: fmean(
            seed["readings"][reading]["exact"]["mad"] - seed["readings"][sensitivity.PUBLISHED]["exact"]["mad"]
            for seed in seeds.values()
        )
        for reading in sensitivity.READINGS
    }
    assert f"{gains['sigma 2 pixels']:.0f}" == "1", "a Gaussian of 2 pixels gains a point of mAD"
    assert all(gain < 0.05 for reading, gain in gains.items() if reading.startswith("score: mean of the highest"))
    assert all(gain < -1 for reading, gain in gains.items() if reading.startswith("stride"))


def test_the_page_says_where_the_fine_preset_met_a_surface() -> None:
    recipes = {path.stem: json.loads(path.read_text(encoding="utf-8"))["recipes"] for path in UNSEEN}
    assert {surface: [*own["laptop_fine"]] for surface, own in recipes.items() if "laptop_fine" in own} == {
        "gravel": ["0"]
    }
    fine, bank = (recipes["gravel"][name]["0"]["metrics"] for name in ("laptop_fine", own_parts.BANK_ALONE))
    said = " ".join((ROOT / "book" / "your_own_data.md").read_text(encoding="utf-8").split())
    gains = [fine[metric] - bank[metric] for metric in own_parts.METRICS]
    assert "with one seed: it is ahead of the bank by {:.0f} points of mAD and {:.0f} of AU-PRO".format(*gains) in said


@pytest.mark.parametrize("path", CALLS, ids=lambda path: path.stem)
def test_a_record_of_calls_names_their_options_runs_and_code(path: Path) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    assert path.stem == record["category"]
    calls = record["recipes"]
    assert calls["no option"]["options"] == []
    assert len({call["hash"] for call in calls.values()}) == len(calls), "each is a run of its own"
    timed = [call["environment"] for call in calls.values() if call["seconds"] is not None]
    assert len({(e["device"], e["threads"]) for e in timed}) == 1, "times that are compared have the same threads"
    for environment in (call["environment"] for call in calls.values()):
        assert environment["code"]["commit"]
        assert not environment["code"]["dirty"]


LONG = ("laptop_fine, one thread", "half an hour")
FINE = [path for path in CALLS if set(LONG) & set(json.loads(path.read_text())["recipes"])]


def test_the_page_says_how_far_the_fine_preset_is_ahead() -> None:
    gains = {}
    for path in FINE:
        recipes = json.loads(path.read_text(encoding="utf-8"))["recipes"]
        (fine,) = (recipes[name]["metrics"]["pixel_aupro"] for name in LONG if name in recipes)
        gains[path.stem] = f"{fine - recipes['memory bank alone']['metrics']['pixel_aupro']:.0f}"
    said = " ".join((ROOT / "book" / "your_own_data.md").read_text(encoding="utf-8").split())
    words = (
        "{pcb} points on pcb, {screw} on screw, {bottle} on bottle, {metal_plate} on metal_plate and {glassfiber} on "
        "glassfiber"
    )
    assert words.format(**gains) in said


@pytest.mark.parametrize("path", FINE, ids=lambda path: path.stem)
def test_the_fine_preset_is_ahead_of_the_bank_as_the_page_says(path: Path) -> None:
    recipes = json.loads(path.read_text(encoding="utf-8"))["recipes"]
    assert (path.stem == "glassfiber") == ("half an hour" in recipes), "the page names the sets"
    bank = recipes["memory bank alone"]["metrics"]
    for name in set(LONG) & set(recipes):
        assert all(recipes[name]["metrics"][metric] > bank[metric] for metric in own_parts.METRICS)
        assert (recipes[name]["seconds"] or 0) < 1800
    if path.stem == "glassfiber":  # "gained nothing over the five minutes of laptop"
        gains = [recipes["half an hour"]["metrics"][m] - recipes["no option"]["metrics"][m] for m in own_parts.METRICS]
        assert max(gains) < 0.5
    long = recipes.get("half an hour, network at 128 pixels")
    if long is not None:
        assert all(abs(long["metrics"][m] - recipes["no option"]["metrics"][m]) < 0.5 for m in own_parts.METRICS)

"""Training, evaluation, records and the command line on a small drawn set."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import mambaad
from mambaad import cli
from mambaad.config import DataConfig, ModelConfig, RunConfig, TrainConfig, run_config_from_dict, to_dict
from mambaad.data import DatasetError, load_dataset
from mambaad.data.synthetic.generate import write_synthetic
from mambaad.device import resolve_device
from mambaad.engine import records, train
from mambaad.engine import run as runner
from mambaad.engine.evaluate import evaluate_run
from mambaad.engine.execution import Execution
from mambaad.engine.optim import batches, lr_factor, parameter_groups, total_steps
from mambaad.engine.run import execute
from mambaad.engine.train import thin, train_run
from mambaad.files import write_json
from mambaad.model import MambaAD
from mambaad.ops.routed_scan import pick_backend

MODEL = ModelConfig(
    backbone="resnet18",
    backbone_kwargs={"channels": (8, 8, 16, 32)},
    depths=(1, 1, 1, 1),
    hss_per_lss=1,
    directions=2,
    state_size=4,
)
RUN = RunConfig(
    model=MODEL,
    encoder_weights="random",
    data=DataConfig(side=64, categories=("gear",)),
    train=TrainConfig(steps=6, batch_size=4, lr=1e-3, seed=3),
)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("set") / "data", side=64, train=9, test=6, categories=("gear",))


QUIETLY = Execution(device="cpu", progress=False)


def run_once(drawn: Path, run: RunConfig = RUN, **options) -> train.TrainResult:
    return train_run(run, load_dataset("synthetic", drawn, ["gear"]), execution=QUIETLY, **options)


def test_same_seed_same_model_other_seed_other_model(drawn):
    first, second = run_once(drawn), run_once(drawn)
    assert first.loss == second.loss
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))
    other = run_once(drawn, replace(RUN, train=replace(RUN.train, seed=4)))
    assert other.loss != first.loss


def test_training_lowers_the_loss_and_leaves_the_encoder_alone(drawn):
    longer = replace(RUN, train=replace(RUN.train, steps=25, lr=3e-3))
    result = run_once(drawn, longer)
    assert result.loss[-1][1] < 0.5 * result.loss[0][1]
    torch.manual_seed(longer.train.seed)
    fresh = MambaAD(MODEL, weights="random")
    trained = result.model.state_dict()
    for key, value in fresh.state_dict().items():
        assert torch.equal(value, trained[key]) == key.startswith("encoder.") or "num_batches" in key, key


def test_an_interrupted_run_continues_to_the_same_weights(drawn, tmp_path, monkeypatch):
    whole = run_once(drawn)
    calls = []

    def interrupt(*features):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return mambaad.model.reconstruction_loss(*features)

    monkeypatch.setattr(train, "reconstruction_loss", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_once(drawn, out=tmp_path)
    monkeypatch.undo()
    assert (tmp_path / "training_state.pt").is_file()
    with pytest.raises(ValueError, match="belongs to the run"):
        run_once(drawn, replace(RUN, train=replace(RUN.train, seed=9)), out=tmp_path)
    continued = run_once(drawn, out=tmp_path)
    assert continued.loss == whole.loss
    assert all(torch.equal(a, b) for a, b in zip(continued.model.parameters(), whole.model.parameters(), strict=True))
    assert not (tmp_path / "training_state.pt").exists()
    loaded = mambaad.load_checkpoint(tmp_path / "checkpoint.pth")
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), whole.model.parameters(), strict=True))


def test_a_loss_that_is_not_finite_stops_the_run(drawn, monkeypatch):
    monkeypatch.setattr(train, "reconstruction_loss", lambda e, d: d[0].sum() * math.nan)
    with pytest.raises(FloatingPointError, match="loss is nan at step 1: lower the learning rate"):
        run_once(drawn)


def test_schedule_warms_up_and_drops_once():
    config = TrainConfig(warmup_steps=3, decay_at=0.8, decay=0.1)
    factors = [lr_factor(step, 10, config) for step in range(10)]
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 0.1, 0.1])


def test_weight_decay_exempts_what_the_published_optimiser_exempts():
    model = MambaAD(MODEL, weights="random")
    decayed, exempt = ({id(p) for p in group["params"]} for group in parameter_groups(model, 0.1))
    assert [g["weight_decay"] for g in parameter_groups(model, 0.1)] == [0.1, 0.0]
    for name, parameter in model.named_parameters():
        if name.startswith("encoder."):
            assert id(parameter) not in decayed | exempt
        elif name.endswith((".A_log", ".dt_bias", ".x_proj", ".dt_proj")) or name.endswith("in_proj.weight"):
            assert id(parameter) in decayed, name
        elif name.endswith((".D", ".bias", "norm.weight")):
            assert id(parameter) in exempt, name


def test_steps_follow_from_epochs_with_incomplete_batches_dropped():
    assert total_steps(TrainConfig(epochs=3, batch_size=4), 11) == 6
    assert total_steps(TrainConfig(epochs=3, batch_size=4, steps=7), 11) == 7
    with pytest.raises(DatasetError, match="fewer than one batch of 16"):
        total_steps(TrainConfig(), 15)


def test_every_epoch_sees_every_image_at_most_once():
    seen = list(batches(11, TrainConfig(batch_size=4), 5))
    assert [len(batch) for batch in seen] == [4] * 5
    assert len({*seen[0], *seen[1]}) == 8
    assert seen[0] + seen[1] != seen[2] + seen[3]


def test_loss_curve_is_thinned_to_means():
    assert thin([]) == []
    assert thin([3.0, 1.0], points=2) == [(1, 3.0), (2, 1.0)]
    assert thin([4.0, 2.0, 1.0], points=2) == [(2, 3.0), (3, 1.0)]


@pytest.mark.parametrize(
    ("device", "message"),
    [("tpu9", "device must be"), ("cuda:77", "torch sees . CUDA devices"), ("mps", "no 'mps' device")],
)
def test_a_device_that_is_not_there_is_refused(device, message):
    with pytest.raises(ValueError, match=message):
        resolve_device(device)


@pytest.fixture(scope="module")
def record(drawn, tmp_path_factory) -> Path:
    results = tmp_path_factory.mktemp("results")
    return execute(RUN, results, profile="quick", data_root=drawn, execution=QUIETLY)


def test_the_record_says_what_is_needed_to_repeat_the_run(record):
    content = records.read_record(record)
    assert record.name == f"quick_{RUN.hash}.json"
    assert run_config_from_dict(content["config"]) == RUN
    assert content["seed"] == 3
    assert content["data"]["counts"] == {"gear": {"train": 9, "test_good": 2, "test_defect": 4}}
    assert set(content["metrics"]) == {"exact", "paper"}
    assert content["metrics"]["exact"]["mean"].keys() == content["metrics"]["exact"]["categories"]["gear"].keys()
    assert content["environment"]["packages"]["torch"] == torch.__version__.split("+")[0] or "+" in torch.__version__
    assert content["train"]["steps"] == 6
    assert content["execution"] == {
        "precision": "32-true",
        "compiled": False,
        "features": "off",
        "features_in": "none",
        "image_cache": False,
        "processes": 1,
        "threads": 1,
        "workers": 0,
    }
    assert str(Path.home()) not in record.read_text()


def test_the_record_says_how_the_run_was_carried_out(drawn, tmp_path):
    cache = tmp_path / "cache"
    execution = replace(QUIETLY, workers=1, image_cache=cache, features="float16", feature_dir=cache)
    path = execute(RUN, tmp_path, profile="quick", data_root=drawn, execution=execution)
    content = records.read_record(path)
    wanted = {"features": "float16", "features_in": "folder", "image_cache": True, "workers": 1}
    assert content["execution"] | wanted == content["execution"]
    assert content["hash"] == RUN.hash  # the same run, carried out otherwise
    assert str(tmp_path) not in path.read_text()


def test_threads_are_pinned_whatever_torch_has(record, drawn, tmp_path, monkeypatch):
    """A notebook run by itself takes as many threads as `make reproduce`, or the last digits would differ."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    seen = []
    original = MambaAD.predict

    def predict(self, images):
        seen.append(torch.get_num_threads())
        return original(self, images)

    monkeypatch.setattr(MambaAD, "predict", predict)
    try:
        path = execute(RUN, tmp_path, profile="quick", data_root=drawn, execution=QUIETLY)
        assert torch.get_num_threads() == 3
        other = execute(
            RUN, tmp_path / "other", profile="quick", data_root=drawn, execution=replace(QUIETLY, threads=2)
        )
        free = execute(
            RUN, tmp_path / "free", profile="quick", data_root=drawn, execution=replace(QUIETLY, threads=None)
        )
    finally:
        torch.set_num_threads(before)
    assert sorted(set(seen)) == [1, 2, 3]
    wanted, *found = (records.read_record(p) for p in (record, path, other, free))
    assert [content["execution"]["threads"] for content in found] == [1, 2, 3]
    assert [content["environment"]["threads"] for content in found] == [1, 2, 3]
    assert found[0]["train"]["loss"] == wanted["train"]["loss"]
    assert found[0]["metrics"] == wanted["metrics"]


def test_the_data_set_is_read_once(drawn, tmp_path, monkeypatch):
    calls = []

    def load(*arguments):
        calls.append(arguments)
        return load_dataset(*arguments)

    for module in (mambaad.data, train, runner, mambaad.engine.evaluate):
        monkeypatch.setattr(module, "load_dataset", load, raising=False)
    execute(RUN, tmp_path, profile="quick", data_root=drawn, execution=QUIETLY)
    assert len(calls) == 1
    options = ["--depths", "2", "2", "2", "2", "--side", "64", "--batch-size", "4", "--steps", "1", "--device", "cpu"]
    data = ["--data", str(drawn), "--out", str(tmp_path / "out"), "--encoder-weights", "embedded"]
    assert cli.main(["train", *data, *options]) == 0
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"features": "yes"}, "features must be one of off, float32, float16, got 'yes'"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"processes": -1}, "processes must be at least 1, got -1"),
        ({"workers": -1}, "workers must be at least 0, got -1"),
    ],
)
def test_execution_refuses_what_cannot_be(values, message):
    with pytest.raises(ValueError, match=message):
        Execution(**values)


def test_a_finished_run_is_not_repeated(record, drawn, monkeypatch):
    before = record.stat().st_mtime_ns
    execute(RUN, record.parents[1], profile="quick", data_root=drawn, execution=QUIETLY)
    assert record.stat().st_mtime_ns == before


def test_metrics_of_a_run_equal_those_of_its_maps(drawn):
    model = MambaAD(MODEL, weights="random").eval()
    samples = load_dataset("synthetic", drawn)
    got = evaluate_run(model, RUN, samples, QUIETLY, batch_size=4)
    samples = [s for s in samples if s.split == "test"]
    from mambaad.data.image_set import ImageSet

    images = ImageSet(samples, 64, MODEL.mean, MODEL.std)
    maps = torch.cat([model.predict(images[i][0][None]).anomaly_map for i in range(len(images))])
    masks = torch.stack([images[i][1] for i in range(len(images))])
    wanted = mambaad.metrics.evaluate(maps, masks)
    assert got["exact"]["categories"]["gear"] == pytest.approx(wanted, abs=1e-3)
    assert got["exact"]["mean"] == pytest.approx(wanted, abs=1e-3)


def test_evaluation_without_test_images_is_refused(tmp_path, drawn):
    model = MambaAD(MODEL, weights="random")
    only_good = [s for s in load_dataset("synthetic", drawn) if s.split == "train"]
    with pytest.raises(DatasetError, match="no test images"):
        mambaad.engine.evaluate.evaluate_samples(model, only_good, 64, QUIETLY)


def test_records_refuse_what_is_none(tmp_path, record):
    content = json.loads(record.read_text())
    with pytest.raises(records.RecordError, match="cannot be read"):
        records.read_record(tmp_path / "none.json")
    (tmp_path / "x.json").write_text("{broken")
    with pytest.raises(records.RecordError, match="cannot be read"):
        records.read_record(tmp_path / "x.json")
    with pytest.raises(records.RecordError, match="has no metrics"):
        records.write_record(tmp_path / "x.json", {k: v for k, v in content.items() if k != "metrics"})
    with pytest.raises(records.RecordError, match="schema version 99"):
        records.write_record(tmp_path / "x.json", {**content, "schema": 99})
    with pytest.raises(ValueError, match="cannot hold inf"):
        write_json(tmp_path / "x.json", {"a": math.inf})


def test_undefined_metrics_survive_the_record(tmp_path, record):
    content = records.read_record(record)
    content["metrics"]["exact"]["mean"]["pixel_aupro"] = math.nan
    path = records.write_record(tmp_path / "runs" / "quick_abc.json", content)
    assert "NaN" not in path.read_text()
    assert math.isnan(records.find_record(tmp_path, "abc")["metrics"]["exact"]["mean"]["pixel_aupro"])
    assert records.find_record(tmp_path, "unknown") is None


def test_config_hash_is_of_the_settings_alone():
    assert RUN.hash == run_config_from_dict(to_dict(RUN)).hash
    assert RUN.hash != replace(RUN, train=replace(RUN.train, lr=2e-3)).hash
    assert RunConfig().hash == RunConfig(model=ModelConfig(depths=[3, 4, 6, 3])).hash
    with pytest.raises(TypeError, match="unknown"):
        run_config_from_dict({"model": {"unknown": 1}})


def test_command_line_from_training_to_prediction(drawn, tmp_path, capsys):
    out = tmp_path / "run"
    options = ["--depths", "2", "2", "2", "2", "--directions", "2", "--side", "64", "--batch-size", "4", "--steps", "1"]
    data = ["--data", str(drawn), "--categories", "gear"]
    backbone = ["--backbone", "mobilenetv2_050", "--encoder-weights", "random", "--device", "cpu"]
    assert cli.main(["train", *data, "--out", str(out), *backbone, *options]) == 0
    assert "protocol paper" in capsys.readouterr().out
    (checkpoint,) = out.glob("runs/own_*/checkpoint.pth")
    metrics = tmp_path / "m.json"
    assert cli.main(["evaluate", "--weights", str(checkpoint), *data, "--side", "64", "--out", str(metrics)]) == 0
    (record,) = out.glob("runs/own_*.json")
    wanted = json.loads(record.read_text())["metrics"]["exact"]["mean"]
    assert json.loads(metrics.read_text())["exact"]["mean"] == pytest.approx(wanted)
    image = next((drawn / "gear" / "test" / "good").glob("*.png"))
    predict = ["predict", str(image), "--weights", str(checkpoint), "--out", str(tmp_path / "p"), "--side", "64"]
    assert cli.main(predict) == 0
    assert (tmp_path / "p" / "scores.csv").is_file()


@pytest.mark.slow
def test_two_processes_share_the_batches_and_write_one_record(drawn, tmp_path):
    command = [sys.executable, "-m", "mambaad", "train", "--data", str(drawn), "--out", str(tmp_path), "--side", "64"]
    command += ["--encoder-weights", "embedded", "--depths", "2", "2", "2", "2", "--batch-size", "4", "--steps", "3"]
    command += ["--device", "cpu", "--threads", "1", "--processes"]
    uneven = subprocess.run([*command, "3"], capture_output=True, text=True, check=False)
    assert "does not split among 3 processes" in uneven.stderr
    subprocess.run([*command, "2"], check=True, timeout=300)
    (record,) = tmp_path.glob("runs/own_*.json")
    content = records.read_record(record)
    assert content["train"]["steps"] == 3
    assert content["metrics"]["exact"]["mean"]


def test_good_images_alone_are_enough_to_train(drawn, tmp_path, capsys):
    parts = tmp_path / "parts" / "train" / "good"
    parts.mkdir(parents=True)
    for image in (drawn / "gear" / "train" / "good").glob("*.png"):
        (parts / image.name).write_bytes(image.read_bytes())
    options = ["--depths", "2", "2", "2", "2", "--side", "64", "--batch-size", "4", "--steps", "1", "--device", "cpu"]
    data = ["--data", str(tmp_path / "parts"), "--dataset", "folder", "--out", str(tmp_path / "out")]
    assert cli.main(["train", *data, "--encoder-weights", "embedded", *options]) == 0
    assert "no test images: nothing to measure" in capsys.readouterr().out


def test_command_line_errors_are_one_sentence(tmp_path, capsys):
    assert cli.main(["predict", str(tmp_path), "--weights", "w.pth", "--out", str(tmp_path / "o")]) == 2
    assert "there is no image" in capsys.readouterr().err
    assert cli.main(["evaluate", "--weights", str(tmp_path / "w.pth"), "--data", str(tmp_path)]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert cli.main(["train", "--data", str(tmp_path / "no"), "--out", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert cli.main(["reproduce", "--profile", "paper", "--run", "abc"]) == 2
    assert "has no run 'abc'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "reproduce", "doctor", "benchmark"])
def test_help_shows_defaults(command, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "default:" in text or command == "doctor"


def test_doctor_names_backends_and_versions(capsys):
    assert cli.main(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    picked = pick_backend("cpu")
    assert facts["scan backends"][picked].startswith(f"picked by 'auto': {picked}")
    assert "install" in facts["scan backends"]["mamba_ssm"] or "device" in facts["scan backends"]["mamba_ssm"]
    assert facts["packages"]["torch"]

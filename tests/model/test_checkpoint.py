"""Checkpoints: ours, both published dialects, what is inferred from the tensors, and what is refused."""

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from published_layout import SMALL, publish

import mambaad
from mambaad.baselines import load_method
from mambaad.config import ModelConfig, to_dict
from mambaad.model import CheckpointError
from mambaad.model.published_checkpoint import infer_config, published_key_map, rename_published


@pytest.fixture(scope="module")
def model() -> mambaad.MambaAD:
    torch.manual_seed(1)
    return mambaad.MambaAD(SMALL, weights="random").eval()


def same(a: mambaad.MambaAD, b: mambaad.MambaAD) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(v, right[k]) for k, v in left.items())


def test_our_checkpoint_round_trip(model: mambaad.MambaAD, tmp_path: Path) -> None:
    mambaad.save_checkpoint(tmp_path / "deep" / "c.pth", model)
    loaded = mambaad.load_checkpoint(tmp_path / "deep" / "c.pth")
    assert loaded.config == SMALL
    assert same(loaded, model)
    assert not loaded.training
    assert os.listdir(tmp_path / "deep") == ["c.pth"]


@pytest.mark.parametrize("dialect", [1, 2])
@pytest.mark.parametrize("wrap", ["plain", "net", "module"])
def test_both_dialects_plain_nested_and_from_several_gpus(
    model: mambaad.MambaAD, dialect: int, wrap: str, tmp_path: Path
) -> None:
    state = publish(model, dialect)
    content = {
        "plain": state,
        "net": {"net": state, "optimizer": {}, "epoch": 3},
        "module": {f"module.{k}": v for k, v in state.items()},
    }[wrap]
    torch.save(content, tmp_path / "c.pth")
    # narrow channels are no published encoder width, so the architecture is given here
    assert same(mambaad.load_checkpoint(tmp_path / "c.pth", config=SMALL), model)


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(backbone="resnet18", depths=(2, 2, 2, 2), scan="sweep", directions=2),
        ModelConfig(backbone="resnet18", depths=(2, 9, 2, 2), scan="zorder", directions=4),
        ModelConfig(backbone="resnet34", depths=(2, 2, 2, 2), hss_per_lss=1, scan="zigzag"),
        ModelConfig(backbone="resnet18", depths=(3, 2, 2, 2), branches="global", scan="scan", state_size=4),
    ],
)
@pytest.mark.parametrize("dialect", [1, 2])
def test_the_architecture_is_inferred(config: ModelConfig, dialect: int) -> None:
    with torch.device("meta"):
        large = mambaad.MambaAD(config, weights="random")
    state = {k: v if v.device.type == "cpu" else torch.empty(v.shape) for k, v in publish(large, dialect).items()}
    if dialect == 2 and config.branches == "global":
        assert not any("conv33" in k for k in state)
    assert infer_config(state) == config


def test_every_published_key_has_a_place_of_its_own(model: mambaad.MambaAD) -> None:
    for dialect in (1, 2):
        names = published_key_map(publish(model, dialect))
        assert sorted(names.values()) == sorted(model.state_dict())
        assert len(set(names.values())) == len(names)


def test_shapes_of_scan_parameters_are_unstacked(model: mambaad.MambaAD) -> None:
    state = rename_published(publish(model, 1))
    assert state["decoder.stages.0.0.hss.0.ss2d.A_log"].shape == (4, 128, 16)
    assert state["decoder.stages.0.0.hss.0.ss2d.D"].shape == (4, 128)


def test_keys_that_do_not_fit_are_named(model: mambaad.MambaAD) -> None:
    state = publish(model, 1)
    del state["mff_oce.convf.bias"]
    state["net_s.surprise"] = torch.zeros(1)
    state["mff_oce.bnf.weight"] = torch.zeros(5)
    with pytest.raises(CheckpointError) as caught:
        mambaad.load_checkpoint(state, config=SMALL)
    message = str(caught.value)
    assert "1 missing: half_fpn.fuse.0.bias" in message
    assert "1 unexpected: net_s.surprise" in message
    assert "1 of wrong shape: half_fpn.fuse.1.weight (5,) instead of (32,)" in message
    state["mff_oce.bnf.weight"] = torch.zeros(50)
    with pytest.raises(
        CheckpointError, match=r"1 of wrong shape: half_fpn\.fuse\.1\.weight \(50,\) instead of \(32,\)"
    ):
        mambaad.load_checkpoint(state, config=SMALL)


@pytest.mark.parametrize("what", ["x_proj_weight", "A_logs"])
def test_a_published_state_without_a_part_of_the_scan_is_damaged(what: str) -> None:
    state = publish(mambaad.MambaAD(ModelConfig(backbone="resnet18", depths=(2, 2, 2, 2)), weights="random"), 1)
    with pytest.raises(CheckpointError, match="incomplete or damaged"):
        mambaad.load_checkpoint({key: tensor for key, tensor in state.items() if not key.endswith(what)})


def test_of_many_keys_the_first_are_named_and_the_rest_counted(model: mambaad.MambaAD) -> None:
    state = model.state_dict() | {f"surprise_{k}": torch.zeros(1) for k in range(8)}
    with pytest.raises(CheckpointError, match=r"8 unexpected: surprise_0, (surprise_\d, ){3}surprise_4 and 3 more"):
        mambaad.load_checkpoint(state, config=SMALL)


def test_numbers_of_another_kind_are_named(model: mambaad.MambaAD) -> None:
    counts = next(k for k, v in model.state_dict().items() if not v.is_floating_point())
    state = model.state_dict() | {counts: torch.tensor(1.5)}
    with pytest.raises(CheckpointError, match=f"1 of wrong type: {re.escape(counts)}"):
        mambaad.load_checkpoint(state, config=SMALL)


def test_unknown_scan_table_and_encoder_are_refused(model: mambaad.MambaAD) -> None:
    state = publish(mambaad.MambaAD(ModelConfig(backbone="resnet18", depths=(2, 2, 2, 2)), weights="random"), 1)
    other = dict(state)
    for key in other:
        if key.endswith("index_flat"):
            other[key] = other[key].flip(-1)
    with pytest.raises(CheckpointError, match=r"scan table .* is none of sweep"):
        mambaad.load_checkpoint(other)
    with pytest.raises(CheckpointError, match="no scan tables"):
        mambaad.load_checkpoint({k: v for k, v in state.items() if "scans" not in k})
    with pytest.raises(CheckpointError, match="is none of resnet18"):
        mambaad.load_checkpoint({k: v for k, v in state.items() if "layer2.1" not in k})
    with pytest.raises(CheckpointError, match="tells no architecture"):
        mambaad.load_checkpoint(model.state_dict())


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("opened_by_the_pickle"),)


def test_a_file_that_would_run_code_is_refused_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "surprise": Hostile()}, "hostile.pth")
    Path("plain.pth").write_bytes(pickle.dumps(Hostile()))
    for name in ("hostile.pth", "plain.pth"):
        with pytest.raises(CheckpointError, match="was not loaded"):
            mambaad.load_checkpoint(name)
    assert not Path("opened_by_the_pickle").exists()


def test_files_that_are_no_checkpoint_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        mambaad.load_checkpoint(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(CheckpointError, match="was not loaded"):
        mambaad.load_checkpoint(tmp_path / "text.pth")
    (tmp_path / "empty.pth").write_bytes(b"")
    with pytest.raises(CheckpointError, match="was not loaded"):
        mambaad.load_checkpoint(tmp_path / "empty.pth")
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="holds a list"):
        mambaad.load_checkpoint(tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="no tensors"):
        mambaad.load_checkpoint({})


def test_the_message_of_a_refused_file_does_not_say_how_to_read_it_nevertheless(tmp_path: Path) -> None:
    torch.save({"surprise": Hostile()}, tmp_path / "hostile.pth")
    with pytest.raises(CheckpointError) as caught:
        mambaad.load_checkpoint(tmp_path / "hostile.pth")
    for word in ("weights_only", "trust", "option", "allowlist", "safe_globals"):
        assert word not in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"config": None}, "settings cannot be used: expected fields"),
        ({"config": {"dephts": [1]}}, "unknown key 'dephts'"),
        ({"config": {"depths": 3}}, "depths: Input should be a valid array"),
        ({"config": {"state_size": 10**9}}, "does not fit the network"),
        ({"config": {"depths": [10**8] * 4}}, "400000000 blocks"),
        ({"config": {"backbone": "hf-hub:somebody/something"}}, "must be a timm model name"),
        ({"config": {"backbone_kwargs": {"no_such": 1}}}, "cannot be built"),
        ({"config": {"backbone_kwargs": {"channels": [8, 8, 8, 10**9]}}}, "does not fit the network|cannot be built"),
        ({"state_dict": [1, 2]}, "state dict is a list"),
        ({"state_dict": {}}, "no tensors"),
        ({"state_dict": {"a": torch.zeros(2)}}, "8 blocks, and it holds 1 tensors"),
    ],
)
def test_a_checkpoint_that_was_tampered_with_is_refused_before_memory_is_taken(
    model: mambaad.MambaAD, damage: dict[str, Any], said: str
) -> None:
    content = {"format": "mambaad-checkpoint-1", "config": to_dict(SMALL), "state_dict": model.state_dict()}
    if isinstance(damage.get("config"), dict):
        damage = {"config": content["config"] | damage["config"]}
    for load in (mambaad.load_checkpoint, load_method):
        with pytest.raises(CheckpointError, match=said) as caught:
            load(content | damage)
        assert len(str(caught.value)) < 2000
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [torch.complex64, torch.int32, "sparse"])
def test_tensors_of_another_type_are_refused(model: mambaad.MambaAD, kind: torch.dtype | str) -> None:
    state = dict(model.state_dict())
    tensor = state["half_fpn.fuse.0.weight"]
    state["half_fpn.fuse.0.weight"] = tensor.to_sparse() if isinstance(kind, str) else tensor.to(kind)
    with pytest.raises(CheckpointError, match=r"1 of wrong type: half_fpn\.fuse\.0\.weight"):
        mambaad.load_checkpoint({"config": to_dict(SMALL), "state_dict": state})


@pytest.mark.parametrize("method", ["nonsense", 3, None, "uniad", "memory_bank"])
def test_a_checkpoint_of_another_method_is_refused(model: mambaad.MambaAD, method: str | int | None) -> None:
    content = {"config": to_dict(SMALL) | {"method": method}, "state_dict": model.state_dict()}
    with pytest.raises(CheckpointError, match="method"):
        load_method(content)


def test_a_full_disk_is_called_by_its_name_and_leaves_nothing(model: mambaad.MambaAD, tmp_path: Path) -> None:
    """In a process of its own: a limit on the size of files cannot be taken back."""
    code = (
        "import resource, sys, torch\n"
        "from mambaad.model.checkpoint import write_checkpoint\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))\n"
        "try:\n    write_checkpoint(sys.argv[1], {'state_dict': {'a': torch.zeros(2**16)}})\n"
        "except OSError as error:\n    print(error.filename, error.strerror)\n"
    )
    path = tmp_path / "c.pth"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == f"{path} File too large\n"
    assert list(tmp_path.iterdir()) == []

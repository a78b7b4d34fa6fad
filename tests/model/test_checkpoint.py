"""Checkpoints: ours, both published dialects, what is inferred from the tensors, and what is refused."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from published_layout import SMALL, publish

import mambaad
from mambaad.config import ModelConfig
from mambaad.model import CheckpointError
from mambaad.model.published_checkpoint import infer_config, published_key_map, rename_published


@pytest.fixture(scope="module")
def model() -> mambaad.MambaAD:
    torch.manual_seed(1)
    return mambaad.MambaAD(SMALL, weights="random").eval()


def same(a: mambaad.MambaAD, b: mambaad.MambaAD) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(v, right[k]) for k, v in left.items())


def test_our_checkpoint_round_trip(model, tmp_path: Path) -> None:
    mambaad.save_checkpoint(tmp_path / "deep" / "c.pth", model)
    loaded = mambaad.load_checkpoint(tmp_path / "deep" / "c.pth")
    assert loaded.config == SMALL
    assert same(loaded, model)
    assert not loaded.training
    assert os.listdir(tmp_path / "deep") == ["c.pth"]


@pytest.mark.parametrize("dialect", [1, 2])
@pytest.mark.parametrize("wrap", ["plain", "net", "module"])
def test_both_dialects_plain_nested_and_from_several_gpus(model, dialect: int, wrap, tmp_path: Path) -> None:
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
def test_the_architecture_is_inferred(config, dialect: int) -> None:
    with torch.device("meta"):
        large = mambaad.MambaAD(config, weights="random")
    state = {k: v if v.device.type == "cpu" else torch.empty(v.shape) for k, v in publish(large, dialect).items()}
    if dialect == 2 and config.branches == "global":
        assert not any("conv33" in k for k in state)
    assert infer_config(state) == config


def test_every_published_key_has_a_place_of_its_own(model) -> None:
    for dialect in (1, 2):
        names = published_key_map(publish(model, dialect))
        assert sorted(names.values()) == sorted(model.state_dict())
        assert len(set(names.values())) == len(names)


def test_shapes_of_scan_parameters_are_unstacked(model) -> None:
    state = rename_published(publish(model, 1))
    assert state["decoder.stages.0.0.hss.0.ss2d.A_log"].shape == (4, 128, 16)
    assert state["decoder.stages.0.0.hss.0.ss2d.D"].shape == (4, 128)


def test_keys_that_do_not_fit_are_named(model) -> None:
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


def test_unknown_scan_table_and_encoder_are_refused(model) -> None:
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
    def __reduce__(self):
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

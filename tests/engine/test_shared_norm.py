"""One, two and three processes that share a batch train alike."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from mambaad.config import ModelConfig
from mambaad.engine.shared_norm import SharedBatchNorm, _Sum, share_batch_statistics
from mambaad.model import MambaAD


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A group of one process."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("shape", [(6, 5), (3, 5, 4, 2)])
def test_a_process_alone_normalises_as_torch_does(alone: None, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    theirs: nn.BatchNorm1d | nn.BatchNorm2d = nn.BatchNorm1d(5) if len(shape) == 2 else nn.BatchNorm2d(5)
    nn.init.normal_(theirs.weight)
    nn.init.normal_(theirs.bias)
    ours = nn.Sequential(nn.Identity(), theirs)
    share_batch_statistics(ours)
    assert isinstance(ours[1], SharedBatchNorm)
    reference = nn.BatchNorm1d(5) if len(shape) == 2 else nn.BatchNorm2d(5)
    reference.load_state_dict(theirs.state_dict())
    for _ in range(2):
        x = torch.randn(shape, requires_grad=True)
        y = x.detach().clone().requires_grad_()
        outgoing = torch.randn(shape)
        ours(x).backward(outgoing)
        reference(y).backward(outgoing)
        torch.testing.assert_close(x.grad, y.grad, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(ours[1].state_dict(), reference.state_dict())
    torch.testing.assert_close(ours[1].weight.grad, reference.weight.grad)
    ours.eval()
    reference.eval()
    torch.testing.assert_close(ours(x), reference(x))
    with pytest.raises(ValueError, match=r"expected \(B, C\)"):
        ours.train()(torch.zeros(2, 5, 3))


@pytest.mark.parametrize("momentum", [0.1, None])
def test_in_half_precision_statistics_are_as_exact_as_torchs(alone: None, momentum: float | None) -> None:
    torch.manual_seed(0)
    theirs = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, momentum=momentum))
    ours = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, momentum=momentum))
    ours.load_state_dict(theirs.state_dict())
    share_batch_statistics(ours)
    for _ in range(2):
        images = torch.randn(4, 3, 16, 16) + 3
        with torch.autocast("cpu", dtype=torch.bfloat16):
            one, other = ours(images), theirs(images)
        assert one.dtype == other.dtype == torch.bfloat16
        torch.testing.assert_close(one, other, atol=0.05, rtol=0.02)  # a rounding of bfloat16, twice
    torch.testing.assert_close(ours[1].running_mean, theirs[1].running_mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours[1].running_var, theirs[1].running_var, atol=1e-5, rtol=1e-4)


def test_sums_and_their_gradients_are_those_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda value: value.mul_(3))  # three that hold the same
    value = torch.ones(2, requires_grad=True)
    total = _Sum.apply(value)
    assert total.tolist() == [3, 3]
    (total * torch.tensor([1.0, 2.0])).sum().backward()
    assert value.grad is not None
    assert value.grad.tolist() == [3, 6]


def test_frozen_parameters_stay_frozen_and_keys_stay() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)).eval()
    model.requires_grad_(False)
    keys = list(model.state_dict())
    share_batch_statistics(model)
    assert list(model.state_dict()) == keys
    assert type(model[1]) is nn.BatchNorm2d
    assert not model[1].training
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("backbone", ["mobilenetv2_050", "efficientnet_lite0", "resnet18"])
def test_an_encoder_gives_the_same_features(backbone: str) -> None:
    """timm's BatchNormAct2d holds the activation: features without it grow from layer to layer."""
    model = MambaAD(ModelConfig(backbone=backbone, depths=(1, 1, 1, 1), hss_per_lss=1), "random").train()
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before = model.encoder(images)
    share_batch_statistics(model)
    for old, new in zip(before, model.encoder(images), strict=True):
        assert torch.equal(old, new)
    shared = [name for name, part in model.named_modules() if isinstance(part, SharedBatchNorm)]
    assert shared
    assert not any(name.startswith("encoder") for name in shared)


def test_an_activation_that_learns_with_its_norm_stays(alone: None) -> None:
    ours, theirs = nn.Sequential(BatchNormAct2d(3)), BatchNormAct2d(3)
    keys = list(ours.state_dict())
    share_batch_statistics(ours)
    assert isinstance(ours[0], SharedBatchNorm)
    assert list(ours.state_dict()) == keys
    images = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(ours(images), theirs(images), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images), atol=1e-6, rtol=1e-5)


def test_a_norm_that_does_something_else_is_refused() -> None:
    class Other(nn.BatchNorm2d):
        pass

    with pytest.raises(ValueError, match="BatchNormAct2d, got Other; train in one process"):
        share_batch_statistics(nn.Sequential(Other(3)))


SCRIPT = """
import json, sys
from dataclasses import replace
from small_run import QUIETLY, RUN
from mambaad.data import load_dataset
from mambaad.engine.train import train_run

data, out, processes = sys.argv[1], sys.argv[2], int(sys.argv[3])
model = replace(RUN.model, drop_path=0.0)  # stochastic depth draws for each process by itself
run = replace(RUN, model=model, train=replace(RUN.train, batch_size=6, steps=5))
done = train_run(run, load_dataset("synthetic", data, ("gear",)), execution=replace(QUIETLY, processes=processes))
if done.is_main:
    norms = {k: v.double().norm().item() for k, v in done.model.state_dict().items() if "running" in k}
    open(out, "w").write(json.dumps({"loss": done.loss, "norms": norms}))
"""


@pytest.mark.slow
def test_two_and_three_processes_have_the_loss_curve_of_one(tmp_path: Path) -> None:
    from mambaad.data.synthetic.generate import write_synthetic

    write_synthetic(tmp_path / "data", side=64, train=18, test=3, categories=("gear",))
    script = tmp_path / "share.py"
    script.write_text(SCRIPT)
    found = {}
    for processes in (1, 2, 3):
        out = tmp_path / f"{processes}.json"
        command = [sys.executable, str(script), str(tmp_path / "data"), str(out), str(processes)]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, env=environment, cwd=tmp_path)
        found[processes] = json.loads(out.read_text())
    for processes in (2, 3):
        for (step, one), (_, several) in zip(found[1]["loss"], found[processes]["loss"], strict=True):
            # the first step agrees to rounding; training amplifies it from step to step
            assert several == pytest.approx(one, rel=1e-5 if step == 1 else 2e-3), (processes, step)
        assert found[processes]["norms"] == pytest.approx(found[1]["norms"], rel=2e-3)

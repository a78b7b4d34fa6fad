"""Several processes measure together what one measures alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, sys
from pathlib import Path
import torch
from small_run import MODEL
from mambaad.data import load_dataset
from mambaad.engine.evaluate import evaluate_samples
from mambaad.engine.execution import Execution
from mambaad.model import MambaAD

data, out, rank, processes = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(1)
if processes > 1:
    torch.distributed.init_process_group("gloo", init_method=f"file://{out}.store", rank=rank, world_size=processes)
torch.manual_seed(0)
model = MambaAD(MODEL, "random").eval()
seen = {}
class Observer:
    def __call__(self, category, maps, masks, labels, scores):
        sums = [values.sum(axis=(1, 2)).tolist() for values in (maps, masks)]
        seen[category] = [*sums, labels.tolist(), scores.tolist()]
execution = Execution(device="cpu", progress=False, threads=1, processes=processes)
samples = load_dataset("synthetic", data)
found = evaluate_samples(model, samples, 64, execution, batch_size=4, observe=Observer())
Path(f"{out}.{rank}").write_text(json.dumps([found, seen]))
"""


@pytest.fixture(scope="module")
def alone(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    return run(drawn, tmp_path_factory.mktemp("alone"), 1)[0]


def run(data: Path, folder: Path, processes: int) -> list[list[dict[str, object]]]:
    """What each of several processes found."""
    script, out = folder / "share.py", folder / "found"
    script.write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen([sys.executable, str(script), str(data), str(out), str(rank), str(processes)], env=environment)
        for rank in range(processes)
    ]
    assert [process.wait(timeout=120) for process in started] == [0] * processes
    return [json.loads(Path(f"{out}.{rank}").read_text()) for rank in range(processes)]


@pytest.mark.parametrize("processes", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_shared_evaluation_finds_what_one_process_finds(
    drawn: Path, alone: list[dict[str, object]], tmp_path: Path, processes: int
) -> None:
    """Bit for bit: no image is left out, none counts twice, and the batches are those of one process."""
    first, *others = run(drawn, tmp_path, processes)
    assert first == alone
    assert others == [[{}, {}]] * (processes - 1)

"""What a method learns after its last step reaches every process: they share the evaluation."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path
from small_run import MODEL, QUIETLY, RUN
from mambaad.config import MambaADBankConfig
from mambaad.engine.run import execute

data, out = sys.argv[1:]
encoder = {"backbone": MODEL.backbone, "backbone_kwargs": MODEL.backbone_kwargs}
config = MambaADBankConfig(**encoder, network=MODEL, network_side=64, entries=64)
run = replace(RUN, model=config, train=replace(RUN.train, steps=2, holdout=0.3))
execute(run, Path(out), profile="quick", data_root=Path(data), execution=replace(QUIETLY, processes=2))
"""


@pytest.mark.slow
def test_every_process_predicts_with_the_bank(tmp_path: Path) -> None:
    from mambaad.data.synthetic.generate import write_synthetic

    # more test images than one batch of the evaluation, so that the second process has some
    write_synthetic(tmp_path / "data", side=64, train=12, test=24, categories=("gear",))
    script = tmp_path / "share.py"
    script.write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(tmp_path / "data"), str(tmp_path / "out")]
    subprocess.run(command, check=True, env=environment, cwd=tmp_path, timeout=300)
    (record,) = (tmp_path / "out").rglob("runs/*.json")
    assert json.loads(record.read_text())["execution"]["processes"] == 2

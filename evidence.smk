"""The evidence on real images as a graph: one job per run of the protocol real_v1, the most informative first.

    make evidence DATA=folder [WEIGHTS=folder] [CORES=2]

A record that is there is not made again, whatever changed since: it names the code it was made with.  A killed call is
simply repeated; the runs under way continue from their last saved state.
"""

import os
import shlex
import sys
from pathlib import Path

from mambaad.study.evidence import curves, protocol

DATA = config["data"]
WEIGHTS = config.get("weights", "")
RESULTS = config.get("results", "results/real_v1")
OUTPUTS = config.get("outputs", "build/real_v1")
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
# The network's large buffers are freed and taken anew in every step; giving them back to the system costs 2 to 3 %.
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**32))
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**34))

# Runs with weights from a file are left out where no folder of weights is named.
RUNS = [run.hash for _, _, run in [*protocol.queue(), *curves.queue()] if WEIGHTS or "@" not in run.encoder_weights]


def record(run: str) -> str:
    return f"{RESULTS}/runs/{protocol.NAME}_{run}.json"


rule all:
    input: [record(run) for run in RUNS]
    default_target: True


for place, run in enumerate(RUNS):

    rule:
        name: f"run_{run}"
        output: record(run)
        log: f"{OUTPUTS}/logs/{run}.log"
        params:
            run=run,
            weights=f"--weights-dir {shlex.quote(WEIGHTS)}" if WEIGHTS else "",
            data=shlex.quote(DATA),
        threads: 1
        priority: len(RUNS) - place
        shell:
            "python -m mambaad evidence --run {params.run} --data {params.data} {params.weights}"
            " --results {RESULTS} --outputs {OUTPUTS} > {log} 2>&1"

"""One run of the protocol, from its settings to its record; and the records read back, row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mambaad.baselines import keeps_features
from mambaad.config import RunConfig
from mambaad.engine import records
from mambaad.engine.execution import Execution
from mambaad.engine.run import execute
from mambaad.model.encoder_weights import EncoderWeightsError, weights_file_name
from mambaad.study.evidence import protocol
from mambaad.study.evidence.resample import draws, mean_and_mad, resampled_metrics
from mambaad.study.evidence.statistics import Replicates


class Resampling:
    """Measures a run on resampled test sets while its maps are at hand."""

    def __init__(self) -> None:
        self._categories: dict[str, NDArray[np.float64]] = {}

    def __call__(
        self,
        category: str,
        maps: NDArray[np.float32],
        masks: NDArray[np.bool_],
        labels: NDArray[np.bool_],
        scores: NDArray[np.float32],
        /,
    ) -> None:
        block = protocol.BLOCKS.get(category, 1)
        counts = draws(labels.tolist(), protocol.REPLICATES, protocol.RESAMPLE_SEED, block)
        self._categories[category] = resampled_metrics(maps, masks, labels.tolist(), scores, counts)

    def facts(self) -> dict[str, Any]:
        """`replicates`: of the mean over categories, exact protocol in bins, the real test set first."""
        return {"replicates": {"protocol": protocol.NAME, **mean_and_mad(self._categories)}}


def carry_out(
    run: RunConfig,
    data: str | Path,
    results: str | Path,
    *,
    outputs: str | Path,
    weights: str | Path | None = None,
    curve_every: int | None = None,
    progress: bool = True,
) -> Path:
    """Train, evaluate and record one run of the protocol with one CPU thread; nothing is done if its record is there.

    The frozen encoder runs once over each image; all runs share its features.

    Args:
        data: root of the images (`mambaad.data.datasets.real_v1`).
        results: folder of the records, `<results>/runs/real_v1_<hash>.json`.
        outputs: folder of checkpoints, training states and the encoder's features.
        weights: folder of local encoder weights, for runs whose weights are a file.
        curve_every: steps between two measurements during the training.

    Raises:
        EncoderWeightsError: the run needs local weights that are not in `weights`, or others of the same name.
        DatasetError: the images are not those of the protocol.
    """
    return execute(
        run,
        results,
        profile=protocol.NAME,
        data_root=data,
        encoder_file=_weights_file(run, weights),
        outputs=outputs,
        execution=Execution(
            device="cpu",
            threads=1,
            features="float32" if keeps_features(run.model) else "off",
            feature_dir=Path(outputs) / "features",
            progress=progress,
        ),
        observe=Resampling(),
        curve_every=curve_every,
    )


def _weights_file(run: RunConfig, folder: str | Path | None) -> Path | None:
    name, _, digest = run.encoder_weights.partition("@")
    if not digest:
        return None
    if folder is None:
        raise EncoderWeightsError(
            f"the run {run.hash} needs the encoder weights {name}: name the folder that holds them with --weights-dir"
        )
    path = Path(folder) / name
    if weights_file_name(path) != run.encoder_weights:
        raise EncoderWeightsError(f"{path} is {weights_file_name(path)}, the protocol's is {run.encoder_weights}")
    return path


def recorded(row: protocol.Row, results: str | Path) -> dict[int, dict[str, Any]]:
    """The records of a row that exist, by seed."""
    found = {}
    for seed in row.seeds:
        path = records.record_path(results, protocol.NAME, row.run(seed).hash)
        if path.is_file():
            found[seed] = records.read_record(path)
    return found


def replicates(row: protocol.Row, results: str | Path, metric: str = protocol.PRIMARY) -> Replicates:
    """A metric of a row's recorded runs, on the test set and on its resampled versions, by seed."""
    return {seed: record["replicates"][metric] for seed, record in recorded(row, results).items()}

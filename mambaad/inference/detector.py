"""A detector for one's own parts in a few lines, with the conventions of scikit-learn's outlier detectors.

`predict` says 1 for good images and -1 for anomalous ones; `score_samples` is larger for better images, the opposite
sign of the scores that the command line writes.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mambaad.baselines import Method, load_method
from mambaad.config import DataConfig, RunConfig, to_dict
from mambaad.config.presets import HELD_OUT, default_preset, preset
from mambaad.data import Sample
from mambaad.data.holdout import hold_out
from mambaad.data.pixels import resize_rgb
from mambaad.data.tiles import files_behind
from mambaad.data.transforms import normalise
from mambaad.device import resolve_device
from mambaad.engine.execution import Execution
from mambaad.engine.train import train_run
from mambaad.inference.inputs import Images, as_list, as_rgb, training_samples
from mambaad.inference.scoring import score_of
from mambaad.inference.threshold import (
    DEFAULT_RATE,
    KEY,
    Threshold,
    calibrate,
    check_rate,
    check_unseen,
    limit,
    stored_side,
    stored_threshold,
)
from mambaad.inference.weights_hub import resolve
from mambaad.model import save_checkpoint
from mambaad.model.checkpoint import TRAINING_FILES, read_checkpoint

BATCH = 8


class NotFittedError(ValueError, AttributeError):
    """The detector was asked before it was fitted, or has no threshold; scikit-learn's error is of these kinds, too."""


class Detector:
    """Learns what good images look like, and tells for others whether they do.

    Args:
        preset: "paper", "laptop" or "laptop_fine" (`mambaad.config.presets`); None: "paper" on a CUDA device, else
            "laptop".
        method: another method than the preset's, such as "memory_bank"; see `mambaad.config.METHODS`.
        steps: optimiser steps; None: the preset's.
        side: of the network's input in pixels; None: the preset's.
        fpr: share of good images that may be called anomalous, which sets the threshold.
        seed: of everything random.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        threads: CPU threads while it is fitted; None: torch's choice.
        out: folder where the state of training is kept, so that an interrupted fit resumes; None: nowhere.
        progress: show progress on stderr.

    Example:
        >>> detector = Detector("laptop", method="memory_bank", side=64, progress=False)
        >>> good = np.random.default_rng(0).integers(0, 40, (12, 64, 64, 3), dtype=np.uint8)
        >>> detector.fit(good).predict(np.full((1, 64, 64, 3), 255, dtype=np.uint8))
        array([-1])
    """

    model_: Method
    side_: int
    threshold_: Threshold | None
    training_files_: Sequence[str]
    """Hashes of the files it was fitted on, and of the photographs behind tiles: they must not set its threshold."""

    _estimator_type = "outlier_detector"  # for scikit-learn before 1.6, which knew no tags

    def __init__(
        self,
        preset: str | None = None,
        *,
        method: str | None = None,
        steps: int | None = None,
        side: int | None = None,
        fpr: float = DEFAULT_RATE,
        seed: int = 42,
        device: str = "auto",
        threads: int | None = None,
        out: str | Path | None = None,
        progress: bool = True,
    ) -> None:
        self.preset = preset
        self.method = method
        self.steps = steps
        self.side = side
        self.fpr = fpr
        self.seed = seed
        self.device = device
        self.threads = threads
        self.out = out
        self.progress = progress

    # -- learning
    def fit(self, X: Images, y: object = None) -> Detector:
        """Learn from good images; some are held out and set the threshold.

        Args:
            X: a folder with train/good, or of images alone; or images, see `Images`.
            y: ignored, for scikit-learn's pipelines.

        Raises:
            DatasetError: no images, or images that cannot be read.
            ValueError: parameters that are not allowed.
        """
        check_rate(self.fpr)
        with tempfile.TemporaryDirectory() as folder:
            samples = training_samples(X, Path(folder))
            files = files_behind(sample.image for sample in samples if sample.split == "train")
            run = self._run(samples)
            execution = Execution(
                device=self.device, threads=self.threads, progress=self.progress, features=self._preset().features
            )
            trained = train_run(run, samples, out=self.out, execution=execution)
            self.model_, self.side_, self.run_ = trained.model, run.data.side, run
            self.training_files_ = files
            self.model_.to(resolve_device(self.device)).eval()
            held = hold_out(samples, run.train.holdout, run.train.seed)[1]
            self.threshold_ = None
            if held:
                scores = [score for _, score in self._predictions([s.image for s in held])]
                self.threshold_ = calibrate(scores, self.fpr, side=self.side_)
        return self

    def _preset(self) -> Any:
        chosen = preset(self.preset) if self.preset else default_preset(str(resolve_device(self.device)))
        return chosen.with_method(self.method) if self.method else chosen

    def _run(self, samples: Sequence[Sample]) -> RunConfig:
        chosen = self._preset().run
        data = DataConfig(dataset="folder", side=self.side or chosen.data.side)
        given = {"seed": self.seed} | ({} if self.steps is None else {"steps": self.steps})
        # a detector needs a threshold, which the published recipe has not
        train = replace(chosen.train, holdout=max(chosen.train.holdout, HELD_OUT), **given)
        kept = len(hold_out(samples, train.holdout, train.seed)[0])
        return replace(chosen, data=data, train=replace(train, batch_size=min(train.batch_size, max(kept, 1))))

    # -- judging
    def predict(self, X: Images) -> np.ndarray:
        """1 for good images, -1 for anomalous ones, (N,); as `score_samples` compares with the threshold."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def fit_predict(self, X: Images, y: object = None) -> np.ndarray:
        """`fit`, then `predict` of the same images."""
        return self.fit(X).predict(X)

    def score_samples(self, X: Images) -> np.ndarray:
        """How good images are, (N,): minus their anomaly score."""
        return -np.array([score for _, score in self._predictions(X)])

    def decision_function(self, X: Images) -> np.ndarray:
        """`score_samples` less `offset_`, (N,): below 0 for anomalous images."""
        offset = self.offset_
        return self.score_samples(X) - offset

    def anomaly_map(self, X: Images) -> np.ndarray:
        """Where images are anomalous: float32 (N, S, S), larger is more anomalous; S is `side_`."""
        maps = [found for found, _ in self._predictions(X)]
        return np.stack(maps) if maps else np.empty((0, self.side_, self.side_), dtype=np.float32)

    @property
    def offset_(self) -> float:
        """Minus the anomaly score above which images are anomalous: the threshold and its tolerance for rounding.

        Raises NotFittedError if there is none, ValueError if it is of tiles or of a region, which a detector has not.
        """
        self._check_fitted()
        if self.threshold_ is None:
            raise NotFittedError(
                "there is no threshold, since no good image was held out: fit on more images, or call "
                "set_threshold(value); scores and maps need none"
            )
        self.threshold_.check_side(self.side_)
        return -limit(self.threshold_.value)

    def set_threshold(self, value: float) -> Detector:
        """Call images anomalous whose anomaly score, minus `score_samples`, is above a value."""
        self._check_fitted()
        self.threshold_ = Threshold.given(value, self.side_)
        return self

    def calibrate(self, X: Images) -> Detector:
        """Set the threshold from other good images, which it was not fitted on, at the false-positive rate `fpr`.

        Raises:
            DatasetError: files among them that it was fitted on; images in memory are not compared.
        """
        self._check_fitted()
        files = [Path(image) for image in as_list(X) if isinstance(image, str | Path)]
        check_unseen({TRAINING_FILES: self.training_files_}, files)
        self.threshold_ = calibrate(list(-self.score_samples(X)), self.fpr, side=self.side_)
        return self

    def _predictions(self, X: Images) -> Iterator[tuple[np.ndarray, float]]:
        self._check_fitted()
        images = as_list(X)
        device = next(iter(self.model_.parameters())).device
        config = self.model_.config
        for first in range(0, len(images), BATCH):
            pixels = [resize_rgb(as_rgb(image), self.side_) for image in images[first : first + BATCH]]
            batch = torch.stack([normalise(image, config.mean, config.std) for image in pixels])
            for anomaly_map in self.model_.predict(batch.to(device)).anomaly_map.float().cpu().numpy():
                yield anomaly_map, score_of(self.model_, anomaly_map)  # as the command line writes it

    def _check_fitted(self) -> None:
        if not hasattr(self, "model_"):
            raise NotFittedError("this Detector is not fitted yet: call fit with good images, or Detector.load")

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn, from 1.6 on, asks of an estimator; only it calls this, so it is there."""
        from sklearn.utils import InputTags, Tags, TargetTags

        images = InputTags(two_d_array=False, three_d_array=True, string=True)
        return Tags(estimator_type="outlier_detector", target_tags=TargetTags(required=False), input_tags=images)

    # -- parameters and files
    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments by name."""
        names = [name for name in inspect.signature(type(self).__init__).parameters if name != "self"]
        return {name: getattr(self, name) for name in names}

    def set_params(self, **params: Any) -> Detector:
        """Change arguments of the constructor.  Raises ValueError for an unknown one."""
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise ValueError(f"Detector has no parameter {name!r}; it has {', '.join(known)}")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = type(self)().get_params()
        changed = [f"{name}={value!r}" for name, value in self.get_params().items() if value != defaults[name]]
        return f"Detector({', '.join(changed)})"

    def save(self, path: str | Path) -> Path:
        """Write a checkpoint, which `mambaad predict`, `calibrate` and `export` take, too; return its path."""
        self._check_fitted()
        run = getattr(self, "run_", None)
        extra: dict[str, Any] = {"run": {"data": {"side": self.side_}} if run is None else to_dict(run)}
        extra[TRAINING_FILES] = list(self.training_files_)
        if self.threshold_ is not None:
            extra[KEY] = asdict(self.threshold_)
        save_checkpoint(path, self.model_, extra)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> Detector:
        """The detector of a checkpoint, of `save` or of `mambaad train`, or of the latter's folder `--out`.

        Of several categories it takes the threshold of all images together.

        Raises:
            CheckpointError: a file that cannot be read.
            WeightsError: a folder without a checkpoint, or with several.
        """
        content = read_checkpoint(resolve(path) if Path(path).is_dir() else path)
        detector = cls(device=device)
        detector.model_ = load_method(content, resolve_device(device))
        detector.side_, detector.threshold_ = stored_side(content), stored_threshold(content)
        detector.training_files_ = list(map(str, content.get(TRAINING_FILES) or ()))
        return detector


def fit(folder: Images, **parameters: Any) -> Detector:
    """A detector that has learnt from good images: `Detector(**parameters).fit(folder)`.

    Args:
        folder: with train/good, or of images alone; or images, see `Images`.
        parameters: of `Detector`.

    Example:
        >>> good = np.random.default_rng(0).integers(0, 40, (12, 64, 64, 3), dtype=np.uint8)
        >>> detector = fit(good, preset="laptop", method="memory_bank", side=64, progress=False)
        >>> detector.anomaly_map(good[0]).shape
        (1, 64, 64)
    """
    return Detector(**parameters).fit(folder)

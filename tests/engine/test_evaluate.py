"""Evaluation over a data set: exact and streaming mode give one shape of results, memory stays bounded."""

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from small_run import MODEL
from torch import Tensor

from mambaad.config import ModelConfig
from mambaad.data import Sample
from mambaad.data.image_set import ImageSet
from mambaad.engine.evaluate import evaluate_samples
from mambaad.engine.execution import Execution
from mambaad.files import write_json
from mambaad.metrics import METRICS, PROTOCOLS, evaluate_protocols
from mambaad.metrics.per_category import MAP_BYTES
from mambaad.model import MambaAD, image_score
from mambaad.model.mambaad import Prediction

SIDE = 32
CONFIG = ModelConfig()


class Brightness(torch.nn.Module):
    """Stands for a network: the anomaly map of an image is its brightness."""

    def __init__(self) -> None:
        super().__init__()
        self.config = CONFIG
        self.batches: list[int] = []

    def predict(self, images: Tensor) -> Prediction:
        self.batches.append(len(images))
        maps = torch.exp(images.mean(dim=1))
        return Prediction(maps, maps.flatten(1).amax(1))


def stand_in() -> Any:
    return Brightness()


def draw(folder: Path, category: str, number: int, seed: int) -> list[Sample]:
    """Grey noise, brighter at a square in every second image; one defective image has no mask."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for i in range(number):
        pixels = 128 + 40 * ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE, 3)), (2, 2, 0)) * 6
        mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
        defect = i % 2 == 1
        if defect:
            top, left = rng.integers(0, SIDE - 8, 2)
            mask[top : top + 8, left : left + 8] = 255
            pixels[mask > 0] += 60
            Image.fromarray(mask).save(folder / f"{category}_{i}_mask.png")
        image = folder / f"{category}_{i}.png"
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(image)
        path = folder / f"{category}_{i}_mask.png" if defect and i != number - 1 else None
        samples.append(Sample(image, category, "test", "square" if defect else "good", path))
    return samples


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Two categories whose samples alternate, as no loader gives them, of numbers that no batch divides."""
    folder = tmp_path_factory.mktemp("images")
    a, b = draw(folder, "a", 10, 0), draw(folder, "b", 14, 1)
    return [sample for pair in zip(a, b, strict=False) for sample in pair] + b[len(a) :]


QUIETLY = Execution(device="cpu", progress=False)


def evaluate(samples: list[Sample], execution: Execution = QUIETLY, **options: Any) -> dict[str, Any]:
    return evaluate_samples(stand_in(), samples, SIDE, execution, **options)


@pytest.fixture(scope="module")
def exact(samples: list[Sample]) -> dict[str, Any]:
    return evaluate(samples)


def test_each_category_has_the_metrics_of_its_maps(samples: list[Sample], exact: dict[str, Any]) -> None:
    for category in ("a", "b"):
        own = [sample for sample in samples if sample.category == category]
        images = ImageSet(own, SIDE, CONFIG.mean, CONFIG.std)
        maps = torch.stack([Brightness().predict(images[i][0][None]).anomaly_map[0] for i in range(len(own))])
        masks = torch.stack([images[i][1] for i in range(len(own))])
        expected = evaluate_protocols(maps, masks, [sample.is_defect for sample in own])
        for protocol in PROTOCOLS:
            assert exact[protocol]["categories"][category] == pytest.approx(expected[protocol], abs=1e-6)


@pytest.mark.parametrize("exact_bytes", [2**30, 0])
def test_images_have_the_score_of_their_method(samples: list[Sample], exact: dict[str, Any], exact_bytes: int) -> None:
    """UniAD's is not the maximum of its map."""
    model: Any = Brightness()
    model.score_pool = 8
    found = evaluate_samples(model, samples, SIDE, Execution(progress=False), exact_bytes=exact_bytes)
    for category in ("a", "b"):
        own = [sample for sample in samples if sample.category == category]
        images = ImageSet(own, SIDE, CONFIG.mean, CONFIG.std)
        maps = torch.stack([model.predict(images[i][0][None]).anomaly_map[0] for i in range(len(own))])
        labels = [sample.is_defect for sample in own]
        for name, values in found["exact"]["categories"][category].items():
            if name.startswith("image"):
                expected = evaluate_protocols(maps, torch.zeros_like(maps), labels, image_score(maps, 8))["exact"][name]
                assert values == pytest.approx(expected, abs=1e-6)
    assert found["exact"]["mean"]["image_ap"] != pytest.approx(exact["exact"]["mean"]["image_ap"], abs=1e-3)


def test_the_shape_of_the_results(exact: dict[str, Any]) -> None:
    assert set(exact) == set(PROTOCOLS)
    for report in exact.values():
        assert set(report) == {"mean", "categories", "pixel_metrics", "relabelled"}
        assert report["pixel_metrics"] == {"a": "exact", "b": "exact"}
        assert report["relabelled"] == {"a": 1, "b": 1}  # the defective images without a mask
        assert list(report["categories"]) == ["a", "b"]
        for name in (*METRICS, "mad"):
            values = [report["categories"][category][name] for category in ("a", "b")]
            assert report["mean"][name] == pytest.approx(np.mean(values))


def test_a_defect_that_vanishes_at_network_size_is_good_under_paper_only(tmp_path: Path) -> None:
    """A 3 x 3 defect in 1562 x 960 pixels, at 256: the published code then takes the image for a good one."""
    samples = []
    for index, size in enumerate([0, 3, 300]):
        mask = np.zeros((960, 1562), dtype=np.uint8)
        mask[500 : 500 + size, 700 : 700 + size] = 255
        pixels = np.full((960, 1562, 3), 100 + 40 * index, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        Image.fromarray(mask).save(tmp_path / f"{index}_mask.png")
        defect = ("crack", tmp_path / f"{index}_mask.png") if size else ("good", None)
        samples.append(Sample(tmp_path / f"{index}.png", "plate", "test", *defect))
    found = evaluate_samples(stand_in(), samples, 256, QUIETLY)
    assert found["paper"]["relabelled"] == found["exact"]["relabelled"] == {"plate": 1}
    # by brightness 0 < 1 < 2: one of three is defective under paper, two under exact
    assert found["exact"]["mean"]["image_ap"] == found["paper"]["mean"]["image_ap"] == 100
    reversed_maps: Any = Brightness()
    reversed_maps.predict = lambda images: Prediction(*(-v + 100 for v in Brightness().predict(images)))
    found = evaluate_samples(reversed_maps, samples, 256, QUIETLY)
    assert found["exact"]["mean"]["image_ap"] == pytest.approx(100 * (1 / 2 * 1 / 2 + 1 / 2 * 2 / 3))
    assert found["paper"]["mean"]["image_ap"] == pytest.approx(100 / 3)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_the_batch_size_does_not_matter(samples: list[Sample], exact: dict[str, Any], batch_size: int) -> None:
    model: Any = Brightness()
    report = evaluate_samples(model, samples, SIDE, QUIETLY, batch_size=batch_size)
    assert model.batches == [batch_size] * (24 // batch_size) or model.batches == [24]  # across categories
    for protocol in PROTOCOLS:
        for category, values in exact[protocol]["categories"].items():
            assert report[protocol]["categories"][category] == pytest.approx(values, abs=1e-6)


def test_workers_read_the_same_images(samples: list[Sample], exact: dict[str, Any]) -> None:
    assert evaluate(samples, replace(QUIETLY, workers=1)) == exact


def test_without_a_budget_everything_streams_and_the_exact_values_are_within_the_bounds(
    samples: list[Sample], exact: dict[str, Any]
) -> None:
    streaming = evaluate(samples, exact_bytes=0, batch_size=4)
    for protocol, report in streaming.items():
        assert set(report) == {"mean", "categories", "pixel_metrics", "relabelled", "bounds"}
        assert report["pixel_metrics"] == {"a": "streaming", "b": "streaming"}
        pairs = [
            (report["categories"][c], report["bounds"]["categories"][c], exact[protocol]["categories"][c]) for c in "ab"
        ]
        for values, bounds, expected in [*pairs, (report["mean"], report["bounds"]["mean"], exact[protocol]["mean"])]:
            assert list(values) == list(bounds) == list(expected)
            for name, (low, high) in bounds.items():
                assert low - 1e-6 <= expected[name] <= high + 1e-6
                assert low - 1e-6 <= values[name] <= high + 1e-6


def test_only_the_category_above_the_budget_streams(samples: list[Sample], exact: dict[str, Any]) -> None:
    budget = 10 * SIDE * SIDE * MAP_BYTES  # all of a, not all of b
    mixed = evaluate(samples, exact_bytes=budget)
    for protocol, report in mixed.items():
        assert report["pixel_metrics"] == {"a": "exact", "b": "streaming"}
        assert list(report["bounds"]["categories"]) == ["b"]
        assert report["categories"]["a"] == exact[protocol]["categories"]["a"]
        low, high = report["bounds"]["mean"]["pixel_auroc"]
        own_low, own_high = report["bounds"]["categories"]["b"]["pixel_auroc"]
        assert high - low == pytest.approx((own_high - own_low) / 2, abs=1e-9)
    assert evaluate(samples, exact_bytes=budget - 1)["exact"]["pixel_metrics"] == {"a": "streaming", "b": "streaming"}


def test_results_can_be_written_as_json(samples: list[Sample], tmp_path: Path) -> None:
    written = json.loads(write_json(tmp_path / "m.json", evaluate(samples, exact_bytes=0)).read_text())
    assert written["exact"]["pixel_metrics"] == {"a": "streaming", "b": "streaming"}
    assert len(written["paper"]["bounds"]["mean"]["mad"]) == 2


def peak(samples: list[Sample], **options: Any) -> int:
    tracemalloc.start()
    evaluate(samples, batch_size=8, **options)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def test_streaming_memory_does_not_grow_with_the_images(samples: list[Sample]) -> None:
    """The same 24 images again and again; 168 more of them would hold 168 maps if any were kept."""
    few, many = samples, samples * 8
    maps = (len(many) - len(few)) * SIDE * SIDE * MAP_BYTES
    peak(few, exact_bytes=0)  # what is imported and kept at first use
    assert peak(many, exact_bytes=0) - peak(few, exact_bytes=0) < 0.2 * maps
    assert peak(many) - peak(few) > 0.8 * maps * 14 / 24  # the exact mode, by contrast, keeps a category's maps


def test_exact_memory_is_less_than_three_times_the_maps(samples: list[Sample]) -> None:
    many = [sample for sample in samples if sample.category == "b"] * 60
    maps = len(many) * SIDE * SIDE * MAP_BYTES
    base = peak(samples[:2])
    assert peak(many) - base < 3 * maps


def test_a_model_can_be_trained_after_it_was_evaluated(samples: list[Sample]) -> None:
    """Tensors that the model keeps between calls must not be of inference mode."""
    model = MambaAD(MODEL, weights="random")
    evaluate_samples(model, samples[:4], 64, QUIETLY)
    assert model.training
    _, decoder = model(torch.randn(1, 3, 64, 64))
    sum(feature.square().mean() for feature in decoder).backward()
    assert all(parameter.grad is not None for parameter in model.decoder.parameters() if parameter.requires_grad)


def test_a_negative_budget_is_refused(samples: list[Sample]) -> None:
    with pytest.raises(ValueError, match="exact_bytes must be a number of bytes, 0 or more, got -1"):
        evaluate(samples, exact_bytes=-1)

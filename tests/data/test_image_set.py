"""Samples as tensors, with and without a cache."""

from pathlib import Path

import pytest
import torch
from layouts import write_category

from mambaad.data import DatasetError, load_dataset
from mambaad.data.image_set import ImageSet
from mambaad.data.transforms import load_image

PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def test_image_set_gives_image_mask_and_index(tmp_path: Path) -> None:
    samples = load_dataset("mvtec_ad", write_category(tmp_path / "nut").parent)
    data = ImageSet(samples, 8, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    assert len(data) == 5
    for k in range(5):
        image, mask, index = data[k]
        assert index == k
        assert torch.equal(image, load_image(samples[k].image, 8, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)))
        assert mask.shape == (8, 8)
        assert mask.dtype == torch.bool
        assert bool(mask.any()) == samples[k].is_defect
    batch = next(iter(torch.utils.data.DataLoader(data, batch_size=5)))
    assert [tuple(part.shape) for part in batch] == [(5, 3, 8, 8), (5, 8, 8), (5,)]
    with pytest.raises(IndexError, match="5 samples"):
        data[5]


@pytest.mark.parametrize("cache", [True, False])
def test_the_cache_reads_each_file_once_and_cannot_be_spoilt(tmp_path: Path, cache: bool) -> None:
    samples = load_dataset("mvtec_ad", write_category(tmp_path / "nut").parent)
    data = ImageSet(samples, 8, *PLAIN, cache=cache)
    first = [(image.clone(), mask.clone()) for image, mask, _ in (data[k] for k in range(5))]
    for k in range(5):
        data[k][0].zero_()
        data[k][1].fill_(True)
    for sample in samples:
        sample.image.unlink()
    if cache:
        for k, (image, mask) in enumerate(first):
            assert torch.equal(data[k][0], image)
            assert torch.equal(data[k][1], mask)
    else:
        with pytest.raises(DatasetError, match="no such file"):
            data[0]


def test_an_empty_image_set_is_refused() -> None:
    with pytest.raises(DatasetError, match="at least one sample"):
        ImageSet([], 8, *PLAIN)

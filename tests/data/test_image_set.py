"""Samples as tensors, with and without a cache."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import WRITERS, write_category
from PIL import Image

from mambaad.data import DatasetError, load_dataset
from mambaad.data.image_set import ImageSet
from mambaad.data.transforms import load_image
from mambaad.data.validate import check_dataset

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


@pytest.mark.parametrize("cache", [True, False, "folder"])
@pytest.mark.parametrize(("dataset", "upright"), [("visa", False), ("medical", False), ("mvtec_ad", True)])
def test_exif_is_followed_where_the_authors_follow_it(
    tmp_path: Path, dataset: str, upright: bool, cache: bool | str
) -> None:
    """An image that notes a quarter turn, and a mask drawn on the pixels as stored (published data) or as seen."""
    root = WRITERS[dataset](tmp_path / dataset)
    chosen = next(s for s in load_dataset(dataset, root) if s.mask is not None)
    assert chosen.mask is not None
    pixels = np.zeros((8, 16, 3), dtype=np.uint8)
    pixels[:, 12:] = 255  # seen upright, the white quarter is at the bottom
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(chosen.image, exif=exif, format="PNG")
    seen = np.rot90(pixels, -1) if upright else pixels
    Image.fromarray(seen[..., 0]).save(chosen.mask)

    samples = load_dataset(dataset, root)
    assert {s.upright for s in samples} == {upright}
    data = ImageSet(samples, 8, *PLAIN, cache=tmp_path / "cache" if cache == "folder" else bool(cache), progress=False)
    image, mask, _ = data[[s.image for s in samples].index(chosen.image)]
    white = torch.zeros(8, 8, dtype=torch.bool)
    if upright:
        white[6:] = True
    else:
        white[:, 6:] = True
    assert torch.equal(mask, white)
    assert torch.equal(image[0] > 0.5, white)
    assert not any("size" in problem for problem in check_dataset(dataset, root, progress=False).problems)


def test_a_cache_is_of_one_kind(tmp_path: Path) -> None:
    samples = load_dataset("mvtec_ad", write_category(tmp_path / "nut").parent)
    mixed = [replace(samples[0], upright=False), *samples[1:]]
    with pytest.raises(DatasetError, match="a cache for each kind"):
        ImageSet(mixed, 8, *PLAIN, cache=tmp_path / "cache", progress=False)

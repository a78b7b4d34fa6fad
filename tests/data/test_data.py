"""Reading images from disk: the layouts, the resize rule, and an error for everything that can be wrong."""

import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import save, write_category
from PIL import Image

from mambaad.data import DATASETS, DatasetError, Sample, counts, index_hash, load_dataset
from mambaad.data.contact_sheet import contact_sheet
from mambaad.data.image_set import ImageSet
from mambaad.data.pixels import image_size
from mambaad.data.transforms import load_image, load_mask

PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def triangle_resize(pixels, side):
    """The resize rule by hand: each output is a triangle-weighted mean, the triangle as wide as the reduction."""
    n = pixels.shape[0]
    scale = max(n / side, 1)
    centre = (np.arange(side) + 0.5) * n / side
    weights = np.maximum(1 - np.abs(np.arange(n) + 0.5 - centre[:, None]) / scale, 0)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.einsum("in,jm,nm...->ij...", weights, weights, pixels.astype(float))


# -- transforms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "side"), [(40, 16), (16, 40), (32, 32), (37, 20)])
def test_images_are_resized_by_antialiased_bilinear_weights(tmp_path, size, side):
    pixels = np.random.default_rng(size).integers(0, 256, (size, size, 3))
    image = load_image(save(tmp_path / "a.png", pixels), side, *PLAIN)
    assert image.shape == (3, side, side)
    assert image.dtype == torch.float32
    # Pillow rounds to 8 bits after each of its two passes.
    np.testing.assert_allclose(image.permute(1, 2, 0) * 255, triangle_resize(pixels, side), atol=1.1)


def test_images_are_normalised_per_channel(tmp_path):
    path = save(tmp_path / "a.png", np.full((8, 8, 3), (51, 102, 255)))
    image = load_image(path, 4, (0.1, 0.2, 0.3), (0.5, 0.25, 2.0))
    expected = torch.tensor([(0.2 - 0.1) / 0.5, (0.4 - 0.2) / 0.25, (1 - 0.3) / 2])
    torch.testing.assert_close(image, expected.view(3, 1, 1).expand(3, 4, 4))


def test_sides_that_differ_are_stretched_to_a_square(tmp_path):
    pixels = np.zeros((20, 40, 3))
    pixels[:, 20:] = 255
    image = load_image(save(tmp_path / "a.png", pixels), 8, *PLAIN)
    assert torch.equal(image[..., :3], torch.zeros(3, 8, 3))
    assert torch.equal(image[..., 5:], torch.ones(3, 8, 3))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "CMYK", "1"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    image = Image.fromarray(np.repeat(np.array([0, 255] * 32, dtype=np.uint8), 64).reshape(64, 64)).convert(mode)
    loaded = load_image(save(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"), image), 64, *PLAIN)
    assert loaded.shape == (3, 64, 64)
    assert loaded[:, 0].max() < 0.01
    assert loaded[:, 1].min() > 0.99


def test_palette_with_transparent_entries(tmp_path):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    loaded = load_image(save(tmp_path / "a.png", image, transparency=bytes([0, 128])), 4, *PLAIN)
    torch.testing.assert_close(loaded[:, 0, 0], torch.tensor([1.0, 0.0, 0.0]))


def test_16_bit_grey_keeps_its_range(tmp_path):
    values = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    loaded = load_image(save(tmp_path / "a.png", Image.fromarray(values)), 16, *PLAIN)
    np.testing.assert_allclose(loaded[0], values / 65535, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize("colour_type", [2, 6])
def test_16_bit_colour_keeps_its_range(tmp_path, colour_type):
    """RGB and RGBA with 16 bits per channel, which Pillow itself cannot write."""
    values = np.random.default_rng(0).integers(0, 2**16, (8, 8, 3 if colour_type == 2 else 4), dtype=np.uint16)

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 8, 8, 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    loaded = load_image(tmp_path / "a.png", 8, *PLAIN)
    np.testing.assert_allclose(loaded.permute(1, 2, 0), values[..., :3] / 65535, atol=1 / 255)


def test_cmyk_jpegs_are_not_inverted(tmp_path):
    path = save(tmp_path / "a.jpg", Image.new("CMYK", (8, 8), (0, 255, 255, 0)), quality=95)
    loaded = load_image(path, 8, *PLAIN)[:, 4, 4]
    assert loaded[0] > 0.9
    assert loaded[1:].max() < 0.1


def test_float_images_are_refused_by_name(tmp_path):
    path = save(tmp_path / "deep.tif", Image.fromarray(np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)))
    with pytest.raises(DatasetError, match=r"deep\.tif: expected 8-bit or 16-bit values, got mode 'F'"):
        load_image(path, 4, *PLAIN)


def test_exif_rotation_is_applied(tmp_path):
    pixels = np.zeros((8, 16, 3))
    pixels[:, 8:] = 255  # right half white; orientation 6 says: turn clockwise, so it goes to the bottom
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "a.png", pixels, exif=exif)
    image = load_image(path, 8, *PLAIN)
    assert image[:, :3].max() == 0
    assert image[:, 5:].min() == 1
    assert image_size(path) == (8, 16)


def test_mask_rule_by_hand(tmp_path):
    # 4 -> 2 pixels: weights of the first output are 3, 3, 1 over 7.
    mask = np.zeros((4, 4))
    mask[:2, :2] = 1  # any value above 0 counts in full: (6/7)^2 = 0.73 > 0.5
    assert load_mask(save(tmp_path / "a.png", mask), 2).tolist() == [[True, False], [False, False]]
    mask[1] = 0  # half of it: 6/7 * 3/7 = 0.37
    assert not load_mask(save(tmp_path / "b.png", mask), 2).any()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(6, 40), side=st.integers(4, 40))
def test_masks_follow_the_resize_rule(tmp_path_factory, seed, size, side):
    rng = np.random.default_rng(seed)
    mask = (rng.random((size, size)) < rng.random()) * rng.integers(1, 256)
    loaded = load_mask(save(tmp_path_factory.mktemp("m") / "a.png", mask), side).numpy()
    expected = triangle_resize((mask > 0) * 255.0, side)
    clear = np.abs(expected - 127.5) > 1.1
    assert loaded.dtype == bool
    assert (loaded == (expected > 127.5))[clear].all()


@pytest.mark.parametrize("mode", ["1", "P", "RGB", "RGBA", "I;16"])
def test_masks_of_any_mode(tmp_path, mode):
    marked = np.zeros((6, 6), dtype=bool)
    marked[1:3, 2:5] = True
    if mode == "I;16":
        image = Image.fromarray(marked.astype(np.uint16) * 300)
    else:
        image = Image.fromarray(marked.astype(np.uint8) * 255).convert(mode)  # RGBA: opaque everywhere
    assert np.array_equal(load_mask(save(tmp_path / "m.png", image), 6).numpy(), marked)


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(DatasetError, match=r"none\.png: no such file, expected an image"):
        load_image(tmp_path / "none.png", 8, *PLAIN)
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(DatasetError, match=r"text\.png: cannot be read as an image"):
        load_image(tmp_path / "text.png", 8, *PLAIN)
    with pytest.raises(DatasetError, match=r"text\.png: cannot be read as a mask"):
        load_mask(tmp_path / "text.png", 8)
    whole = save(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (64, 64, 3))).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"cut\.png: cannot be read as an image"):
        load_image(tmp_path / "cut.png", 8, *PLAIN)


# -- layouts ----------------------------------------------------------------------------------------------------------


def test_mvtec_layout(tmp_path):
    for name in ("nut", "bolt"):
        write_category(tmp_path / name)
    (tmp_path / "license.txt").touch()
    (tmp_path / "bolt/train/good/notes.txt").touch()
    (tmp_path / "bolt/train/good/._000.png").touch()
    samples = load_dataset("mvtec_ad", tmp_path)
    assert counts(samples) == {c: {"train": 2, "test_good": 1, "test_defect": 2} for c in ("bolt", "nut")}
    assert list(counts(load_dataset("mvtec_ad", tmp_path, ("nut", "bolt")))) == ["nut", "bolt"]
    defect = next(s for s in samples if s.is_defect)
    assert defect == Sample(
        tmp_path / "bolt/test/hole/000.png", "bolt", "test", "hole", tmp_path / "bolt/ground_truth/hole/000_mask.png"
    )
    assert all((s.mask is not None) == s.is_defect for s in samples)


def test_plain_folder_with_and_without_ground_truth(tmp_path):
    with_masks = load_dataset("folder", write_category(tmp_path / "mine"))
    without = load_dataset("folder", write_category(tmp_path / "yours", masks=False), ("yours",))
    assert counts(with_masks) == {"mine": {"train": 2, "test_good": 1, "test_defect": 2}}
    assert [s.mask is not None for s in with_masks if s.is_defect] == [True, True]
    assert [s.mask for s in without if s.is_defect] == [None, None]


def test_masks_may_bear_their_image_s_name(tmp_path):
    folder = write_category(tmp_path / "nut")
    for path in (folder / "ground_truth/hole").iterdir():
        path.rename(path.with_name(path.name.replace("_mask", "")))
    assert all(s.mask is not None for s in load_dataset("mvtec_ad", tmp_path) if s.is_defect)


def test_index_hash_follows_the_files_not_the_place(tmp_path):
    def digest(root):
        return index_hash(load_dataset("mvtec_ad", root), root)

    for root in ("a", "b"):
        write_category(tmp_path / root / "nut")
    before = digest(tmp_path / "a")
    assert before == digest(tmp_path / "b")
    assert len(before) == 12
    assert before == index_hash(load_dataset("mvtec_ad", tmp_path / "a")[::-1], tmp_path / "a")
    save(tmp_path / "b/nut/ground_truth/hole/000_mask.png", np.zeros((12, 12)) + np.arange(12))
    assert digest(tmp_path / "b") != before
    write_category(tmp_path / "b/nut")
    (tmp_path / "b/nut/train/good/001.png").rename(tmp_path / "b/nut/train/good/002.png")
    assert digest(tmp_path / "b") != before


def _remove(path):
    for inner in sorted(path.rglob("*"), reverse=True):
        inner.rmdir() if inner.is_dir() else inner.unlink()
    path.rmdir()


BREAKAGES = {
    "no folder": (lambda root: _remove(root), (), r"data: no such folder, expected one folder per category"),
    "empty folder": (lambda root: _remove(root / "nut"), (), r"data: expected folders <category>/train/good"),
    "one level too deep": (
        lambda root: [p.rename(root / p.name) for p in (root / "nut").iterdir()] and (root / "nut").rmdir(),
        (),
        r"single category: name the folder above",
    ),
    "unknown category": (lambda root: None, ("nut", "bolt"), r"no category bolt; available: nut"),
    "no training images": (
        lambda root: _remove(root / "nut/train/good"),
        (),
        r"nut.train.good: expected good training images .*found none",
    ),
    "no mask": (
        lambda root: (root / "nut/ground_truth/hole/001_mask.png").unlink(),
        (),
        r"hole.001\.png: a defective image without a mask, expected .*ground_truth.hole.001_mask\.png",
    ),
    "mask of another size": (
        lambda root: save(root / "nut/ground_truth/hole/001_mask.png", np.zeros((5, 7))),
        (),
        r"001_mask\.png: expected a mask of its image's size \(12, 12\) \(width, height\), got \(7, 5\)",
    ),
    "broken mask": (
        lambda root: (root / "nut/ground_truth/hole/001_mask.png").write_text("x"),
        (),
        r"001_mask\.png: cannot be read as a mask",
    ),
}


@pytest.mark.parametrize("what", BREAKAGES)
def test_a_broken_tree_is_explained(tmp_path, what):
    root = tmp_path / "data"
    write_category(root / "nut")
    load_dataset("mvtec_ad", root, ("nut",))
    breakage, categories, message = BREAKAGES[what]
    breakage(root)
    with pytest.raises(DatasetError, match=message):
        load_dataset("mvtec_ad", root, categories)


def test_plain_folder_errors(tmp_path):
    folder = write_category(tmp_path / "mine")
    with pytest.raises(DatasetError, match=r"none: no such folder, expected one with train/good"):
        load_dataset("folder", tmp_path / "none")
    with pytest.raises(DatasetError, match=r"no category yours; available: mine"):
        load_dataset("folder", folder, ("yours",))
    with pytest.raises(DatasetError, match=r"expected a folder train/good .*mine look like categories"):
        load_dataset("folder", tmp_path)
    (folder / "ground_truth/hole/000_mask.png").unlink()
    with pytest.raises(DatasetError, match="without a mask"):
        load_dataset("folder", folder)


def test_unknown_layout_lists_the_known_ones(tmp_path):
    with pytest.raises(DatasetError, match=f"'imagenet'; there are {', '.join(DATASETS)}"):
        load_dataset("imagenet", tmp_path)


# -- ImageSet ---------------------------------------------------------------------------------------------------------


def test_image_set_gives_image_mask_and_index(tmp_path):
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
def test_the_cache_reads_each_file_once_and_cannot_be_spoilt(tmp_path, cache):
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


def test_an_empty_image_set_is_refused():
    with pytest.raises(DatasetError, match="at least one sample"):
        ImageSet([], 8, *PLAIN)


# -- contact sheet ----------------------------------------------------------------------------------------------------


def test_contact_sheet_shows_every_kind_and_outlines_masks(tmp_path):
    for name in ("nut", "bolt"):
        write_category(tmp_path / "data" / name, size=24)
    sheet = contact_sheet(tmp_path / "data", tmp_path / "out" / "sheet.png", good=2, side=48)
    assert sheet.size == (3 * 52 + 4, 2 * 68 + 4)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "sheet.png")), np.asarray(sheet))
    outlined = (np.asarray(sheet) == (255, 40, 200)).all(axis=-1)
    assert outlined[:, 2 * 52 :].sum() > 100
    assert not outlined[:, : 2 * 52].any()
    with pytest.raises(DatasetError, match="at least 1"):
        contact_sheet(tmp_path / "data", good=0, per_defect=0)


# -- real images ------------------------------------------------------------------------------------------------------


def test_real_images_have_the_published_counts(shared):
    root = shared / "data" / "mvtec"
    samples = load_dataset("mvtec_ad", root)
    assert counts(samples) == {
        "bottle": {"train": 209, "test_good": 20, "test_defect": 63},
        "screw": {"train": 320, "test_good": 41, "test_defect": 119},
    }
    for kind in dict.fromkeys(s.defect for s in samples if s.is_defect):
        sample = next(s for s in samples if s.defect == kind)
        assert load_image(sample.image, 64, *PLAIN).std() > 0.02
        assert 0 < load_mask(sample.mask, 256).float().mean() < 0.2

"""From files to pixels: the resize rule by hand, every mode of image, and an error for every broken file."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import save
from numpy.typing import NDArray
from PIL import Image

from mambaad.data import DatasetError
from mambaad.data.pixels import image_size, read_mask, read_rgb
from mambaad.data.transforms import load_image, load_mask

PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def triangle_resize(pixels: NDArray[Any], side: int) -> NDArray[Any]:
    """The resize rule by hand: each output is a triangle-weighted mean, the triangle as wide as the reduction."""
    n = pixels.shape[0]
    scale = max(n / side, 1)
    centre = (np.arange(side) + 0.5) * n / side
    weights = np.maximum(1 - np.abs(np.arange(n) + 0.5 - centre[:, None]) / scale, 0)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.einsum("in,jm,nm...->ij...", weights, weights, pixels.astype(float))


@pytest.mark.parametrize(("size", "side"), [(40, 16), (16, 40), (32, 32), (37, 20)])
def test_images_are_resized_by_antialiased_bilinear_weights(tmp_path: Path, size: int, side: int) -> None:
    pixels = np.random.default_rng(size).integers(0, 256, (size, size, 3))
    image = load_image(save(tmp_path / "a.png", pixels), side, *PLAIN)
    assert image.shape == (3, side, side)
    assert image.dtype == torch.float32
    # Pillow rounds to 8 bits after each of its two passes.
    np.testing.assert_allclose(image.permute(1, 2, 0) * 255, triangle_resize(pixels, side), atol=1.1)


def test_images_are_normalised_per_channel(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.full((8, 8, 3), (51, 102, 255)))
    image = load_image(path, 4, (0.1, 0.2, 0.3), (0.5, 0.25, 2.0))
    expected = torch.tensor([(0.2 - 0.1) / 0.5, (0.4 - 0.2) / 0.25, (1 - 0.3) / 2])
    torch.testing.assert_close(image, expected.view(3, 1, 1).expand(3, 4, 4))


def test_sides_that_differ_are_stretched_to_a_square(tmp_path: Path) -> None:
    pixels = np.zeros((20, 40, 3))
    pixels[:, 20:] = 255
    image = load_image(save(tmp_path / "a.png", pixels), 8, *PLAIN)
    assert torch.equal(image[..., :3], torch.zeros(3, 8, 3))
    assert torch.equal(image[..., 5:], torch.ones(3, 8, 3))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "CMYK", "1"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(np.repeat(np.array([0, 255] * 32, dtype=np.uint8), 64).reshape(64, 64)).convert(mode)
    loaded = load_image(save(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"), image), 64, *PLAIN)
    assert loaded.shape == (3, 64, 64)
    assert loaded[:, 0].max() < 0.01
    assert loaded[:, 1].min() > 0.99


def test_palette_with_transparent_entries(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    loaded = load_image(save(tmp_path / "a.png", image, transparency=bytes([0, 128])), 4, *PLAIN)
    torch.testing.assert_close(loaded[:, 0, 0], torch.tensor([1.0, 0.0, 0.0]))


def test_16_bit_grey_keeps_its_range(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    loaded = load_image(save(tmp_path / "a.png", Image.fromarray(values)), 16, *PLAIN)
    np.testing.assert_allclose(loaded[0], values / 65535, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize("colour_type", [2, 6])
def test_16_bit_colour_keeps_its_range(tmp_path: Path, colour_type: int) -> None:
    """RGB and RGBA with 16 bits per channel, which Pillow itself cannot write."""
    values = np.random.default_rng(0).integers(0, 2**16, (8, 8, 3 if colour_type == 2 else 4), dtype=np.uint16)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 8, 8, 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    loaded = load_image(tmp_path / "a.png", 8, *PLAIN)
    np.testing.assert_allclose(loaded.permute(1, 2, 0), values[..., :3] / 65535, atol=1 / 255)


def test_cmyk_jpegs_are_not_inverted(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", Image.new("CMYK", (8, 8), (0, 255, 255, 0)), quality=95)
    loaded = load_image(path, 8, *PLAIN)[:, 4, 4]
    assert loaded[0] > 0.9
    assert loaded[1:].max() < 0.1


def test_float_images_are_refused_by_name(tmp_path: Path) -> None:
    path = save(tmp_path / "deep.tif", Image.fromarray(np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)))
    with pytest.raises(DatasetError, match=r"deep\.tif: expected 8-bit or 16-bit values, got mode 'F'"):
        load_image(path, 4, *PLAIN)


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((8, 16, 3))
    pixels[:, 8:] = 255  # right half white; orientation 6 says: turn clockwise, so it goes to the bottom
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "a.png", pixels, exif=exif)
    image = load_image(path, 8, *PLAIN)
    assert image[:, :3].max() == 0
    assert image[:, 5:].min() == 1
    assert image_size(path) == (8, 16)

    as_stored = load_image(path, 8, *PLAIN, upright=False)
    assert as_stored[:, :, :3].max() == 0
    assert as_stored[:, :, 5:].min() == 1
    assert image_size(path, upright=False) == (16, 8)
    assert read_rgb(path, upright=False).size == (16, 8)
    assert read_mask(path, upright=False)[:, 8:].all()
    assert read_mask(path)[8:].all()


def test_mask_rule_by_hand(tmp_path: Path) -> None:
    # 4 -> 2 pixels: weights of the first output are 3, 3, 1 over 7.
    mask = np.zeros((4, 4))
    mask[:2, :2] = 1  # any value above 0 counts in full: (6/7)^2 = 0.73 > 0.5
    assert load_mask(save(tmp_path / "a.png", mask), 2).tolist() == [[True, False], [False, False]]
    mask[1] = 0  # half of it: 6/7 * 3/7 = 0.37
    assert not load_mask(save(tmp_path / "b.png", mask), 2).any()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(6, 40), side=st.integers(4, 40))
def test_masks_follow_the_resize_rule(
    tmp_path_factory: pytest.TempPathFactory, seed: int, size: int, side: int
) -> None:
    rng = np.random.default_rng(seed)
    mask = (rng.random((size, size)) < rng.random()) * rng.integers(1, 256)
    loaded = load_mask(save(tmp_path_factory.mktemp("m") / "a.png", mask), side).numpy()
    expected = triangle_resize((mask > 0) * 255.0, side)
    clear = np.abs(expected - 127.5) > 1.1
    assert loaded.dtype == bool
    assert (loaded == (expected > 127.5))[clear].all()


@pytest.mark.parametrize("mode", ["1", "P", "RGB", "RGBA", "I;16"])
def test_masks_of_any_mode(tmp_path: Path, mode: str) -> None:
    marked = np.zeros((6, 6), dtype=bool)
    marked[1:3, 2:5] = True
    if mode == "I;16":
        image = Image.fromarray(marked.astype(np.uint16) * 300)
    else:
        image = Image.fromarray(marked.astype(np.uint8) * 255).convert(mode)  # RGBA: opaque everywhere
    assert np.array_equal(load_mask(save(tmp_path / "m.png", image), 6).numpy(), marked)


def test_missing_and_broken_files(tmp_path: Path) -> None:
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


def test_a_file_of_several_images_is_refused(tmp_path: Path) -> None:
    """Only the first of them would be looked at, and the others passed over in silence."""
    pages = [Image.new("L", (8, 8), 40 * k) for k in range(3)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DatasetError, match=r"stack\.tif: holds 3 images, expected one"):
        read_rgb(tmp_path / "stack.tif")
    pages[0].save(tmp_path / "one.tif")
    assert read_rgb(tmp_path / "one.tif").size == (8, 8)


def test_a_camera_s_photograph_is_read_without_its_preview(tmp_path: Path) -> None:
    photograph = Image.new("RGB", (8, 8), (200, 0, 0))
    photograph.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    assert image_size(tmp_path / "a.jpg") == (8, 8)
    assert np.asarray(read_rgb(tmp_path / "a.jpg"))[..., 0].min() > 190


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_every_format_that_is_read_is_known_by_its_content(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "named_otherwise.png"
    Image.new("RGB", (8, 8), (200, 0, 0)).save(path, format=kind)
    assert np.asarray(read_rgb(path))[..., 0].min() > 190
    assert image_size(path) == (8, 8)


@pytest.mark.parametrize("kind", ["EPS", "GIF", "PPM", "TGA"])
def test_other_formats_are_opened_by_no_reader(tmp_path: Path, kind: str) -> None:
    """Whatever a file is called: Pillow hands EPS to Ghostscript."""
    path = tmp_path / "photo.png"
    Image.new("RGB", (8, 8)).save(path, format=kind)
    for read in (read_rgb, read_mask, image_size):
        with pytest.raises(DatasetError, match=r"photo\.png: cannot be read as .*cannot identify image file"):
            read(path)


def test_a_photograph_of_too_many_pixels_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "large.png", np.zeros((2001, 2001)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2_000_000)
    for read in (read_rgb, read_mask, image_size):
        with pytest.raises(DatasetError, match=r"large\.png: has more than the 4 megapixels read; cut it up or"):
            read(path)


def test_a_second_image_without_dimensions_is_a_damaged_file(tmp_path: Path) -> None:
    """Found by handing damaged bytes to the reader: Pillow raises TypeError while it counts the images."""
    path = tmp_path / "damaged.tif"
    Image.new("L", (8, 8)).save(path)
    content = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, start)
    struct.pack_into("<I", content, start + 2 + 12 * entries, len(content))
    path.write_bytes(bytes(content) + bytes(6))
    with pytest.raises(DatasetError, match=r"damaged\.tif: cannot be read as an image"):
        read_rgb(path)


def test_what_pillow_logs_of_a_broken_file_is_said_once(tmp_path: Path) -> None:
    """In a process of its own, since pytest catches what is logged."""
    path = tmp_path / "many_samples.tif"
    Image.new("RGB", (12, 9)).save(path)
    samples_per_pixel = b"\x15\x01\x03\x00\x01\x00\x00\x00"
    content = path.read_bytes()
    assert content.count(samples_per_pixel + b"\x03\x00") == 1
    path.write_bytes(content.replace(samples_per_pixel + b"\x03\x00", samples_per_pixel + b"\x03\x01"))
    code = "import sys; from mambaad import cli; from mambaad.data.pixels import read_rgb; from pathlib import Path\n"
    code += "sys.exit(cli.exit_code(lambda: bool(read_rgb(Path(sys.argv[1]))), 'read'))"
    call = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "cannot be read as an image" in line

"""Decoding: every mode becomes RGB, damage is an error, a phone's picture stands upright."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backbone.data.pictures import read_picture


def test_colour_comes_back_as_it_was(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    assert np.array_equal(read_picture(tmp_path / "a.png"), image)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    suffix = "tif" if mode == "CMYK" else "png"
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (4, 3), (255, 255, 255)).convert(mode).save(path)
    found = read_picture(path)
    assert (found.shape, found.dtype) == ((3, 4, 3), np.uint8)
    assert found.min() == 255


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_data_do_not_count(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 2)).save(tmp_path / "a.jpg", exif=exif.tobytes()[:-6])
    assert read_picture(tmp_path / "a.jpg").shape == (2, 6, 3)


def test_transparency_of_a_palette_is_dropped(tmp_path: Path) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.putdata([0, 1])
    picture.save(tmp_path / "a.png", transparency=bytes([0, 128]))
    assert read_picture(tmp_path / "a.png").tolist() == [[[10, 20, 30], [40, 50, 60]]]


def test_sixteen_bits_keep_their_high_byte(tmp_path: Path) -> None:
    values = np.array([[0, 255, 256], [32768, 65280, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png")[..., 1].tolist() == [[0, 0, 1], [128, 255, 255]]


def test_rotation_of_the_camera(tmp_path: Path) -> None:
    picture = Image.new("RGB", (6, 2))
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert read_picture(tmp_path / "a.jpg").shape == (6, 2, 3)
    assert read_picture(tmp_path / "a.jpg", upright=False).shape == (2, 6, 3)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
def test_truncated_file(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "a.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=r"a\.jpg cannot be decoded"):
        read_picture(path)

"""Decoding: every mode becomes RGB, damage is an error, a phone's picture stands upright."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from compound.data.images import Decoded, Jpeg, UnreadableError, open_picture, read_picture


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
    with pytest.raises(UnreadableError, match=r"a\.jpg cannot be decoded"):
        read_picture(path)
    # Also where the window ends before the damage.
    with pytest.raises(UnreadableError, match=r"a\.jpg cannot be decoded"):
        open_picture(path).window((0, 0, 8, 8), (8, 8))


def test_missing_file(tmp_path: Path) -> None:
    for read in (read_picture, open_picture):
        with pytest.raises(UnreadableError, match=r"a\.jpg cannot be read: No such file"):
            read(tmp_path / "a.jpg")
        with pytest.raises(UnreadableError, match="cannot be read: Is a directory"):
            read(tmp_path)


# libjpeg-turbo's versions differ, and so may what they round.
DECODING_TOLERANCE = 2


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_windows_of_jpeg_files_are_as_pillow_decodes_them(
    tmp_path: Path, mode: str, progressive: bool, subsampling: int
) -> None:
    path = tmp_path / "a.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (45, 67, 3), np.uint8)
    picture = Image.fromarray(noise).convert(mode)
    settings = {} if mode == "L" else {"subsampling": subsampling}
    picture.save(path, quality=90, progressive=progressive, **settings)
    source = open_picture(path)
    assert isinstance(source, Decoded if mode == "CMYK" else Jpeg)
    assert source.size == (45, 67)
    expected = read_picture(path).astype(int)
    assert np.array_equal(source.whole(), expected)
    window = source.window((3, 5, 60, 44), (30, 30))
    assert np.abs(window - expected[5:44, 3:60]).max() <= DECODING_TOLERANCE


@pytest.mark.parametrize(("least", "factor"), [(25, 1), (24, 2), (13, 2), (12, 4), (6, 8), (1, 8)])
def test_windows_are_decoded_as_small_as_they_may_be(
    tmp_path: Path, least: int, factor: int
) -> None:
    path = tmp_path / "a.jpg"
    ramp = np.linspace(0, 250, 101)[None, :, None].repeat(51, 0).repeat(3, 2).astype(np.uint8)
    Image.fromarray(ramp).save(path, quality=95)
    box = (8, 0, 72, 48)
    window = open_picture(path).window(box, (least, least))
    assert window.shape == (48 // factor, 64 // factor, 3)
    # The mean of the columns that each of the window's stands for.
    expected = ramp[:48, 8:72].reshape(48, -1, factor, 3).mean(axis=(0, 2))
    assert np.abs(window.mean(axis=0) - expected).max() < 3


def test_turned_jpeg_is_decoded_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    for orientation, kind in ((1, Jpeg), (6, Decoded)):
        exif[0x0112] = orientation
        Image.new("RGB", (6, 2)).save(tmp_path / "a.jpg", exif=exif)
        source = open_picture(tmp_path / "a.jpg")
        assert isinstance(source, kind)
        assert source.size == ((2, 6) if orientation == 1 else (6, 2))
        stored = open_picture(tmp_path / "a.jpg", upright=False)
        assert isinstance(stored, Jpeg)
        assert stored.size == (2, 6)


def test_what_pillow_does_not_mind_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(path)
    content = path.read_bytes()
    # Bytes between the scan and the end marker, of which libjpeg warns.
    path.write_bytes(content[:-2] + bytes(9) + content[-2:])
    window = open_picture(path).window((0, 0, 8, 8), (8, 8))
    assert np.array_equal(window, read_picture(path)[:8, :8])


@pytest.mark.parametrize("factor", [1, 2, 8])
@pytest.mark.parametrize("options", [
    {"subsampling": "4:2:0"},
    {"subsampling": "4:4:4"},
    {"subsampling": "4:2:2", "progressive": True},
    {"subsampling": "4:2:0", "progressive": True, "optimize": True},
    {"subsampling": "4:2:0", "restart_marker_blocks": 3},
])  # fmt: skip
def test_what_lies_below_the_window_is_not_decoded(
    tmp_path: Path, options: dict[str, Any], factor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (25, 20, 3), np.uint8))
    coarse.resize((160, 200)).save(tmp_path / "a.jpg", quality=85, **options)
    source = open_picture(tmp_path / "a.jpg")
    assert isinstance(source, Jpeg)
    heights = []

    def spy(content: bytes, **settings: Any) -> np.ndarray:
        found = decode(content, **settings)
        heights.append(len(found))
        return found

    decode = simplejpeg.decode_jpeg
    monkeypatch.setattr(simplejpeg, "decode_jpeg", spy)
    box = (16, 8, 144, 72)
    found = source.window(box, (64 // factor, 128 // factor))
    assert heights == [80 // factor]  # of 200 // factor
    whole = decode(source.content, min_height=-(-200 // factor), min_width=160 // factor)
    left, top, right, bottom = (edge // factor for edge in box)
    assert np.array_equal(found, whole[top:bottom, left:right])

"""Where pictures come from, and what cannot be read."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from compound.data.sources import Files, Frame, Video, ahead, groups_of, open_source, pixels_of
from compound.errors import UserError


def write_picture(path: Path, red: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4), (red, 0, 0)).save(path)
    return path


def write_video(path: Path, count: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 48))
    for i in range(count):
        writer.write(np.full((48, 64, 3), (0, 0, 20 * i), np.uint8))  # BGR
    writer.release()
    return path


def reds(source: object) -> list[int]:
    frames = open_source(source)  # type: ignore[arg-type]
    return [int(frame.pixels[0, 0, 0]) for frame in frames if frame.pixels is not None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, red in (("b.png", 2), ("a.png", 1), ("deep/c.png", 3)):
        write_picture(tmp_path / name, red)
    (tmp_path / "notes.md").write_text("no picture")
    return tmp_path


def test_files_come_in_order(folder: Path) -> None:
    (folder / "list.txt").write_text("b.png\n\ndeep/c.png\n")
    for source, expected in (
        (folder / "b.png", [2]),
        (folder, [1, 2, 3]),
        (f"{folder}/*.png", [1, 2]),
        (f"{folder}/**/*.png", [1, 2, 3]),
        (folder / "list.txt", [2, 3]),
    ):
        assert reds(source) == expected, source
        frames = open_source(source)
        assert (frames.count, frames.rate) == (len(expected), None)


def test_what_cannot_be_read_is_told_in_its_place(folder: Path) -> None:
    (folder / "aa.png").write_bytes(b"nothing")
    found = list(open_source(folder))
    assert [frame.pixels is None for frame in found] == [False, True, False, False]
    assert found[1] == Frame(str(folder / "aa.png"), None, f"{folder / 'aa.png'} cannot be decoded")


def test_video(tmp_path: Path) -> None:
    video = open_source(write_video(tmp_path / "clip.mp4", 10))
    assert isinstance(video, Video)
    assert (video.count, video.rate) == (10, 10.0)
    found = list(video)
    assert [frame.name for frame in found] == [f"{tmp_path}/clip.mp4:{i:06d}" for i in range(10)]
    for i, frame in enumerate(found):
        assert frame.pixels is not None
        # The codec loses some.
        assert np.abs(frame.pixels.astype(int) - (20 * i, 0, 0)).mean() < 8


def test_video_that_breaks_off(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    rng = np.random.default_rng(0)
    for _ in range(30):
        writer.write(rng.integers(0, 256, (48, 64, 3), np.uint8))
    writer.release()
    assert all(frame.pixels is not None for frame in open_source(path))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    *found, last = open_source(path)
    assert 15 < len(found) < 25
    assert last.pixels is None
    assert last.problem == f"{path} breaks off after {len(found)} of 30 frames"


def test_a_number_of_frames_may_be_estimated(tmp_path: Path) -> None:
    for count, whole in ((12, True), (13, False)):
        video = open_source(write_video(tmp_path / "clip.mp4", 10))
        video.count = count
        assert all(frame.pixels is not None for frame in video) == whole


def test_nothing_of_the_kind(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_text("\n")
    (tmp_path / "clip.mp4").write_bytes(b"nothing")
    for source, message in (
        (tmp_path / "empty", "no picture in this folder"),
        (tmp_path / "list.txt", "this list is empty"),
        (tmp_path / "none.jpg", "there is no such file or folder"),
        (f"{tmp_path}/*.jpg", "nor one that fits such a pattern"),
        (tmp_path / "clip.mp4", "this video cannot be opened or is not whole"),
        ("99", "source=99: this camera cannot be opened"),
    ):
        with pytest.raises(UserError, match=message):
            open_source(source)


def test_pictures_of_every_kind_are_the_same(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.png", 9)
    pixels = np.asarray(Image.open(path))
    for picture in (path, str(path), pixels, Image.open(path), Image.open(path).convert("RGBA")):
        assert np.array_equal(pixels_of(picture), pixels)
    for wrong in (pixels[..., 0], pixels.astype(np.float32), np.zeros((2, 2, 4), np.uint8)):
        with pytest.raises(ValueError, match="expected"):
            pixels_of(wrong)


def test_work_is_done_a_little_ahead() -> None:
    given: list[int] = []

    def items():
        for i in range(100):
            given.append(i)
            yield i

    results = ahead(lambda i: i * i, items())
    assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
    assert len(given) < 20
    assert [*results] == [i * i for i in range(5, 100)]


def test_groups() -> None:
    assert list(groups_of(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(groups_of([], 2)) == []


def test_files_are_told_without_reading_them() -> None:
    assert Files((Path("missing.jpg"),)).count == 1

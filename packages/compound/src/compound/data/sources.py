"""Where pictures to look at come from: files, folders, patterns, lists, videos, a camera."""

import glob
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import cv2
import numpy as np
from PIL import Image

from compound.data.images import EXTENSIONS, UnreadableError, read_picture
from compound.errors import UserError

VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
AHEAD, _READERS = 8, 2  # pictures, threads
# Some containers' number of frames is estimated from their length.
COUNT_ERROR = 2
T = TypeVar("T")
R = TypeVar("R")

# As users have one: a path, ``(H, W, 3)`` uint8 RGB, or Pillow's.
Picture = str | Path | np.ndarray | Image.Image


class Frame(NamedTuple):
    """One picture.

    Attributes:
        name: the file's path, or the video's with the number of the frame.
        pixels: ``(H, W, 3)`` uint8 RGB, the right way up; None where there are none.
        problem: why there are none.
    """

    name: str
    pixels: np.ndarray | None
    problem: str = ""


class Frames(Protocol):
    """Pictures one after the other."""

    @property
    def count(self) -> int | None:
        """Return how many there are, if that is known."""
        ...

    @property
    def rate(self) -> float | None:
        """Return the frames a second of a video, None of single pictures."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """Yield them; what cannot be read comes with its problem."""
        ...


@dataclass(frozen=True, slots=True)
class Files:
    """Picture files, decoded a few ahead of who takes them."""

    paths: tuple[Path, ...]
    rate: None = None

    @property
    def count(self) -> int:
        """Return how many there are."""
        return len(self.paths)

    def __iter__(self) -> Iterator[Frame]:
        """Yield them in order."""
        return ahead(_read, self.paths)


class Video:
    """Frames of a video file, or of a camera until it ends or the user does.

    Args:
        source: the file, or the camera's number.

    Raises:
        UserError: it cannot be opened.
    """

    def __init__(self, source: Path | int) -> None:
        self.source = source
        self._capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
        if not self._capture.isOpened():
            kind = "camera" if isinstance(source, int) else "video"
            raise UserError(f"source={source}: this {kind} cannot be opened or is not whole")
        frames = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.count = None if isinstance(source, int) or frames <= 0 else frames
        self.rate = self._capture.get(cv2.CAP_PROP_FPS) or 25.0

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; one without pixels at the end says that the file breaks off."""
        number = 0
        while True:
            there, pixels = self._capture.read()
            if not there:
                break
            yield Frame(f"{self.source}:{number:06d}", cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
            number += 1
        self._capture.release()
        if self.count is not None and number < self.count - max(COUNT_ERROR, self.count // 100):
            problem = f"{self.source} breaks off after {number} of {self.count} frames"
            yield Frame(f"{self.source}:{number:06d}", None, problem)


def open_source(source: str | int | Path) -> Frames:
    """Return the pictures that a word of the command line means.

    Args:
        source: a picture; a folder, with all in it; a pattern such as ``shots/*.jpg``; a ``.txt``
            with a path on each line, relative to it; a video; or the number of a camera.

    Raises:
        UserError: there is nothing of the kind.
    """
    text = str(source)
    if text.isdecimal() and not Path(text).exists():
        return Video(int(text))
    path = Path(text).expanduser()
    if path.suffix.lower() in VIDEOS and path.is_file():
        return Video(path)
    if path.is_dir():
        found = tuple(p for p in sorted(path.rglob("*")) if p.suffix.lower() in EXTENSIONS)
        missing = f"no picture in this folder ({', '.join(EXTENSIONS)})"
    elif path.suffix == ".txt" and path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines()
        found = tuple(path.parent / line.strip() for line in lines if line.strip())
        missing = "this list is empty"
    elif path.is_file():
        found, missing = (path,), ""
    else:
        found = tuple(map(Path, sorted(glob.glob(str(path), recursive=True))))
        missing = "there is no such file or folder, nor one that fits such a pattern"
    if not found:
        raise UserError(f"source={source}: {missing}")
    return Files(found)


def pixels_of(picture: Picture) -> np.ndarray:
    """Return a picture as ``(H, W, 3)`` uint8 RGB, a file's the right way up.

    Raises:
        UnreadableError: the file cannot be decoded to its end.
        ValueError: the array is none of a picture.
    """
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f"expected (H, W, 3) uint8, got {picture.shape} {picture.dtype}")
        return picture
    if isinstance(picture, Image.Image):
        return np.asarray(picture.convert("RGB"))
    return read_picture(Path(picture).expanduser())


def several(pictures: Picture | Iterable[Picture]) -> Iterable[Picture]:
    """Return one picture as a list of one, and several as they are."""
    return [pictures] if isinstance(pictures, Picture) else pictures


def groups_of(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of ``size`` items, the last maybe shorter.

    Raises:
        ValueError: the size is below 1.
    """
    if size < 1:
        raise ValueError(f"batch_size={size}: expected 1 or more")
    group = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def ahead(
    work: Callable[[T], R], items: Iterable[T], *, readers: int = _READERS, least: int = AHEAD
) -> Iterator[R]:
    """Yield ``work(item)`` in order; threads are a few items ahead of who takes the results.

    Args:
        work: what the threads do.
        items: what with.
        readers: how many threads.
        least: how many items they are ahead at least, such as a batch.
    """
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(readers) as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > max(AHEAD, 2 * readers, least):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _read(path: Path) -> Frame:
    try:
        return Frame(str(path), read_picture(path))
    except UnreadableError as error:
        return Frame(str(path), None, str(error))

"""Writes pictures as files or as one video, as they came."""

import os
from pathlib import Path

import cv2
import numpy as np

from compound.data.sources import Frame
from compound.errors import UserError

# What OpenCV writes as it is called; other pictures become PNG.
_WRITTEN = (".jpg", ".jpeg", ".png", ".webp")


class Gallery:
    """Files below a folder, in the folders that they came from.

    Args:
        folder: where to; made if needed.
        names: of all pictures to come, whose common folder is left out.
    """

    def __init__(self, folder: Path, names: tuple[Path, ...]) -> None:
        self.folder = folder
        self._root = Path(os.path.commonpath([_whole(path).parent for path in names]))

    def close(self) -> None:
        """End; every file is complete already."""

    def add(self, frame: Frame, pixels: np.ndarray) -> None:
        """Write one picture under its own name."""
        path = self.folder / _whole(Path(frame.name)).relative_to(self._root)
        if path.suffix.lower() not in _WRITTEN:
            path = path.with_name(f"{path.name}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        # OpenCV itself would not say that it cannot write.
        done, content = cv2.imencode(path.suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        assert done
        path.write_bytes(content.tobytes())


def _whole(path: Path) -> Path:
    """Return a path from the root on, without ``..``, which would lead out of the folder."""
    return Path(os.path.abspath(path))


class Film:
    """One MP4 file; frames of another size than the first one are fitted to it.

    Args:
        path: the file.
        rate: frames a second.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self.path = path
        self.rate = rate
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def close(self) -> None:
        """Close the file, which can be played however the frames ended."""
        if self._writer is not None:
            self._writer.release()

    def add(self, frame: Frame, pixels: np.ndarray) -> None:
        """Append one frame."""
        if self._writer is None:
            self._size = (pixels.shape[1], pixels.shape[0])
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self.path), code, self.rate, self._size)
            if not self._writer.isOpened():
                raise UserError(f"{self.path} cannot be written; draw=false goes without a video")
        if (pixels.shape[1], pixels.shape[0]) != self._size:
            pixels = cv2.resize(pixels, self._size)
        self._writer.write(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))

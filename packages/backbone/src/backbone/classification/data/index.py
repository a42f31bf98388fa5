"""A split of a classification data set, as flat arrays that worker processes share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from compound.data.images import Decoded, Source, open_picture
from compound.errors import UserError


class ImageIndex(Protocol):
    """Pictures with labels ``(N,)`` int64 in 0..K-1, and the names of the K classes."""

    @property
    def labels(self) -> np.ndarray:
        """Return the labels."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the names."""
        ...

    def source(self, i: int) -> Source:
        """Return picture ``i`` to be decoded later; UnreadableError may come now or then."""
        ...

    def name(self, i: int) -> str:
        """Return what picture ``i`` is called."""
        ...

    def subset(self, rows: np.ndarray) -> "ImageIndex":
        """Return the pictures at ``rows``."""
        ...


@dataclass(frozen=True, slots=True)
class FileIndex:
    """Pictures in files; ``file_names`` ``(N,)`` are relative to ``root``."""

    root: Path
    file_names: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    def source(self, i: int) -> Source:
        """Return picture ``i``; see `open_picture`."""
        return open_picture(self.root / str(self.file_names[i]))

    def name(self, i: int) -> str:
        """Return the path of picture ``i`` in ``root``."""
        return str(self.file_names[i])

    def subset(self, rows: np.ndarray) -> "FileIndex":
        """Return the pictures at ``rows``."""
        return FileIndex(self.root, self.file_names[rows], self.labels[rows], self.class_names)


@dataclass(frozen=True, slots=True)
class ArrayIndex:
    """Pictures in memory, ``(N, H, W, 3)`` uint8 RGB."""

    pictures: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    def source(self, i: int) -> Source:
        """Return picture ``i``."""
        return Decoded(self.pictures[i])

    def name(self, i: int) -> str:
        """Return the number of picture ``i``; files of their own these pictures have none."""
        return f"picture {i}"

    def subset(self, rows: np.ndarray) -> "ArrayIndex":
        """Return the pictures at ``rows``."""
        return ArrayIndex(self.pictures[rows], self.labels[rows], self.class_names)


def hold_out(index: ImageIndex, fraction: float, *, seed: int) -> tuple[ImageIndex, ImageIndex]:
    """Split an index in two, class by class, so that the second has ``fraction`` of each class.

    Of a class with two pictures or more each side gets at least one. The choice depends on the
    seed and the number of pictures alone.

    Raises:
        UserError: no class has two pictures, or ``fraction`` is not in (0, 1).
    """
    if not 0 < fraction < 1:
        raise UserError(f"data.read.val_fraction={fraction}: expected a share, such as 0.1")
    rng = np.random.default_rng(seed)
    held = np.zeros(len(index.labels), bool)
    for label in range(len(index.class_names)):
        rows = np.flatnonzero(index.labels == label)
        if len(rows) > 1:
            count = min(max(1, round(fraction * len(rows))), len(rows) - 1)
            held[rng.permutation(rows)[:count]] = True
    if not held.any():
        raise UserError("data: no class has two pictures, so none can be held out for validation")
    return index.subset(np.flatnonzero(~held)), index.subset(np.flatnonzero(held))

"""One picture at a time: decode, augment, and batches of them.

Shapes: B = batch, N = boxes of one picture.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from backbone.data import pictures
from backbone.data.sampler import Draw
from efficientdet.data.augment import PAD_COLOUR, Augment
from efficientdet.data.index import AnnotationIndex


class Sample(NamedTuple):
    """One picture as the network will see it; ``unreadable`` says why if it is a blank one."""

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    image_id: int
    source_size: tuple[int, int]
    unreadable: str


class Batch(NamedTuple):
    """What a loader gives.

    Attributes:
        images: ``(B, 3, H, W)`` uint8 RGB, laid out channels-last.
        boxes: one ``(N, 4)`` float32 xyxy a picture, in pixels of ``images``.
        labels: one ``(N,)`` int64 a picture, 0..K-1.
        image_ids: ``(B,)`` int64.
        source_sizes: ``(B, 2)`` int64 height and width of the files' pictures.
        unreadable: files and why `read_picture` refused them; blank pictures stand in for them.
    """

    images: Tensor
    boxes: list[Tensor]
    labels: list[Tensor]
    image_ids: Tensor
    source_sizes: Tensor
    unreadable: list[str]


class DetectionDataset(Dataset[Sample]):
    """Pictures of an index through an augmentation.

    Crowd regions are left out of the boxes: training skips them (official
    ``skip_crowd_during_training``), evaluation reads them from the index.
    """

    def __init__(self, index: AnnotationIndex, augment: Augment) -> None:
        self.index = index
        self.augment = augment

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.index)

    def __getitem__(self, draw: Draw) -> Sample:
        """Return the picture of a draw, augmented by the draw's seed."""
        rows = self.index.rows(draw.index)
        path = self.index.image_dir / str(self.index.file_names[draw.index])
        width, height = self.index.sizes[draw.index].tolist()
        keep = ~self.index.crowd[rows]
        unreadable = ""
        try:
            image = read_picture(path, width=width, height=height)
        except ValueError as error:
            unreadable = str(error)
            image = np.full((height, width, 3), PAD_COLOUR, np.uint8)
            keep[:] = False
        boxes, labels = self.index.boxes[rows][keep], self.index.labels[rows][keep]
        image, boxes, labels = self.augment(image, boxes, labels, seed=draw.seed)
        image_id = int(self.index.image_ids[draw.index])
        return Sample(image, boxes, labels, image_id, (height, width), unreadable)


def read_picture(path: Path, *, width: int, height: int) -> np.ndarray:
    """Return a picture as it is stored, ``(height, width, 3)`` uint8 RGB.

    As in COCO's annotations, a rotation in the EXIF data does not count.

    Raises:
        ValueError: it cannot be decoded to its end, or has another size than its annotation says.
    """
    image = pictures.read_picture(path, upright=False)
    if image.shape[:2] != (height, width):
        raise ValueError(
            f"{path} is {image.shape[1]} x {image.shape[0]} pixels, but its annotation says "
            f"{width} x {height}"
        )
    return image


def find_problem(index: AnnotationIndex, i: int) -> str:
    """Return why picture ``i`` cannot be read, or nothing."""
    width, height = index.sizes[i].tolist()
    try:
        read_picture(index.image_dir / str(index.file_names[i]), width=width, height=height)
    except ValueError as error:
        return str(error)
    return ""


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack equally large pictures; boxes stay ragged, however many there are."""
    return Batch(
        images=torch.from_numpy(np.stack([s.image for s in samples])).permute(0, 3, 1, 2),
        boxes=[torch.from_numpy(s.boxes) for s in samples],
        labels=[torch.from_numpy(s.labels) for s in samples],
        image_ids=torch.tensor([s.image_id for s in samples]),
        source_sizes=torch.tensor([s.source_size for s in samples]),
        unreadable=[s.unreadable for s in samples if s.unreadable],
    )

"""One picture at a time: decode, augment, and batches of them.

Shapes: B = batch, N = boxes of one picture.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from backbone.data.sampler import Draw
from efficientdet.data.augment import PAD_COLOUR, Augment
from efficientdet.data.index import AnnotationIndex


class Sample(NamedTuple):
    """One picture as the network will see it; ``unreadable`` names the file if it was none."""

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
        unreadable: files that could not be decoded; blank pictures stand in for them.
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
        image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        unreadable = "" if image is not None else str(path)
        keep = ~self.index.crowd[rows]
        if image is None:
            width, height = self.index.sizes[draw.index]
            image = np.full((height, width, 3), PAD_COLOUR, np.uint8)
            keep[:] = False
        boxes, labels = self.index.boxes[rows][keep], self.index.labels[rows][keep]
        size = (image.shape[0], image.shape[1])
        image, boxes, labels = self.augment(image, boxes, labels, seed=draw.seed)
        image_id = int(self.index.image_ids[draw.index])
        return Sample(image, boxes, labels, image_id, size, unreadable)


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

"""Labelled pictures one at a time, and batches of them.

Shapes: B = batch, C = channels, S = side of the network's input.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from backbone.classification.data.index import ImageIndex
from compound.data.images import UnreadableError
from compound.data.sampler import Draw
from compound.errors import UserError


class Sample(NamedTuple):
    """One picture as the network will see it, or why there is none."""

    image: np.ndarray | None
    label: int
    index: int
    unreadable: str


class Batch(NamedTuple):
    """What a loader gives.

    Attributes:
        images: ``(B, C, S, S)`` uint8, laid out channels-last.
        labels: ``(B,)`` int64, 0..K-1.
        indices: ``(B,)`` int64 positions in the split.
        unreadable: why files could not be read; readable pictures of the batch stand in for them.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    unreadable: list[str]


class ClassificationDataset(Dataset[Sample]):
    """Pictures of an index through a transform.

    Args:
        index: the split.
        transform: takes a `Source` and ``seed``, returns ``(S, S, 3)`` uint8 RGB.
        grey: give one channel of luminance instead of three.
    """

    def __init__(
        self, index: ImageIndex, transform: Callable[..., np.ndarray], *, grey: bool = False
    ) -> None:
        self.index = index
        self.transform = transform
        self.grey = grey

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.index.labels)

    def __getitem__(self, draw: Draw) -> Sample:
        """Return the picture of a draw, augmented by the draw's seed."""
        label = int(self.index.labels[draw.index])
        try:
            image = self.transform(self.index.source(draw.index), seed=draw.seed)
        except UnreadableError as error:
            return Sample(None, label, draw.index, str(error))
        if self.grey:
            image = np.asarray(Image.fromarray(image).convert("L"))[..., None]
        return Sample(image, label, draw.index, "")


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack pictures; in place of unreadable ones repeat others, so that batches keep their size.

    Raises:
        UserError: none of them can be read.
    """
    readable = [sample for sample in samples if sample.image is not None]
    unreadable = [sample.unreadable for sample in samples if sample.image is None]
    if not readable:
        raise UserError(f"data: a whole batch of pictures cannot be read, for one {unreadable[0]}")
    rows = [readable[i % len(readable)] for i in range(len(samples))]
    images = np.stack([row.image for row in rows if row.image is not None])
    return Batch(
        images=torch.from_numpy(images).permute(0, 3, 1, 2),
        labels=torch.tensor([row.label for row in rows]),
        indices=torch.tensor([row.index for row in rows]),
        unreadable=unreadable,
    )

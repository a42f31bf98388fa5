"""One picture at a time: decode, augment, and batches of them.

Shapes: B = batch, N = boxes of one picture.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from compound.data import images as pictures
from compound.data.images import Decoded, Source, UnreadableError, all_of
from compound.data.sampler import Draw
from efficientdet.data.augment import Augment
from efficientdet.data.index import AnnotationIndex
from efficientdet.data.mixing import Mixing
from efficientdet.data.operations import Picture

# What training does with regions that hold a crowd: leave them out (official
# ``skip_crowd_during_training``), or learn them as if each were one object.
Crowd = Literal["skip", "train"]


class Sample(NamedTuple):
    """One picture as the network will see it.

    ``unreadable`` says of each file that could not be read why; a blank picture stands in for it.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    image_id: int
    source_size: tuple[int, int]
    unreadable: tuple[str, ...]


class Batch(NamedTuple):
    """What a loader gives.

    Attributes:
        images: ``(B, 3, H, W)`` uint8 RGB, laid out channels-last.
        boxes: one ``(N, 4)`` float32 xyxy a picture, in pixels of ``images``.
        labels: one ``(N,)`` int64 a picture, 0..K-1.
        image_ids: ``(B,)`` int64.
        source_sizes: ``(B, 2)`` int64 height and width of the files' pictures.
        unreadable: files and why they were refused; blank pictures stand in for them.
    """

    images: Tensor
    boxes: list[Tensor]
    labels: list[Tensor]
    image_ids: Tensor
    source_sizes: Tensor
    unreadable: list[str]


class DetectionDataset(Dataset[Sample]):
    """Pictures of an index through an augmentation.

    Args:
        index: the split.
        augment: what makes a picture the network's input.
        mixing: how several pictures become one, in training.
        crowd: whether crowd regions are objects; evaluation reads them from the index.
    """

    def __init__(
        self,
        index: AnnotationIndex,
        augment: Augment,
        *,
        mixing: Mixing | None = None,
        crowd: Crowd = "skip",
    ) -> None:
        self.index = index
        self.augment = augment
        self.mixing = mixing
        self.crowd: Crowd = crowd

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.index)

    def __getitem__(self, draw: Draw) -> Sample:
        """Return the picture of a draw, augmented by the draw's seed."""
        problems: list[str] = []
        if self.mixing is not None and self.mixing.acts_in(draw.epoch):
            read = partial(self._read, problems=problems)
            picture = self.mixing(draw, read, len(self), self.augment)
        else:
            picture = self._or_blank(draw.index, partial(self.augment, seed=draw.seed), problems)
        width, height = self.index.sizes[draw.index].tolist()
        image_id = int(self.index.image_ids[draw.index])
        return Sample(*picture, image_id, (height, width), tuple(problems))

    def _read(self, i: int, problems: list[str]) -> Picture:
        """Return a picture as it is stored."""
        return self._or_blank(i, _in_full, problems)

    def _or_blank(
        self, i: int, way: Callable[[Source, np.ndarray, np.ndarray], Picture], problems: list[str]
    ) -> Picture:
        """Return what comes of a picture, or of a blank one; then ``problems`` tells why."""
        rows = self.index.rows(i)
        keep = _counts(self.index.crowd[rows], self.crowd)
        boxes, labels = self.index.boxes[rows][keep], self.index.labels[rows][keep]
        try:
            return way(open_picture(self.index, i), boxes, labels)
        except UnreadableError as error:
            problems.append(str(error))
            width, height = self.index.sizes[i].tolist()
            blank = np.full((height, width, 3), self.augment.pad_colour, np.uint8)
            return way(Decoded(blank), boxes[:0], labels[:0])


def without_empty(index: AnnotationIndex, *, crowd: Crowd) -> AnnotationIndex:
    """Return the split without the pictures in which there is nothing to learn."""
    owners = index.owners
    kept = np.bincount(owners[_counts(index.crowd, crowd)], minlength=len(index)) > 0
    rows = kept[owners]
    return replace(
        index,
        file_names=index.file_names[kept],
        image_ids=index.image_ids[kept],
        sizes=index.sizes[kept],
        offsets=np.concatenate([[0], np.cumsum(np.diff(index.offsets)[kept])]),
        boxes=index.boxes[rows],
        labels=index.labels[rows],
        crowd=index.crowd[rows],
        areas=index.areas[rows],
    )


def _counts(crowd_flags: np.ndarray, crowd: Crowd) -> np.ndarray:
    """Return, as a new array, which boxes are objects to learn."""
    return np.ones_like(crowd_flags) if crowd == "train" else ~crowd_flags


def open_picture(index: AnnotationIndex, i: int) -> Source:
    """Return picture ``i`` as it is stored, to be decoded later.

    As in COCO's annotations, a rotation in the EXIF data does not count.

    Raises:
        UnreadableError: it is no picture, or has another size than its annotation says.
    """
    path, (width, height) = index.path(i), index.sizes[i].tolist()
    source = pictures.open_picture(path, upright=False)
    if source.size != (height, width):
        raise UnreadableError(
            f"{path} is {source.size[1]} x {source.size[0]} pixels, but its annotation says "
            f"{width} x {height}"
        )
    return source


def _in_full(source: Source, boxes: np.ndarray, labels: np.ndarray) -> Picture:
    return Picture(all_of(source), boxes, labels)


def find_problem(index: AnnotationIndex, i: int) -> str:
    """Return why picture ``i`` cannot be read, or nothing."""
    try:
        open_picture(index, i).whole()
    except UnreadableError as error:
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
        unreadable=[problem for s in samples for problem in s.unreadable],
    )

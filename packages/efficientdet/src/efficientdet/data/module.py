"""The data module of every detection data set, whatever its format."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import albumentations as A
import pytorch_lightning as pl
from torch.utils.data import DataLoader

from backbone.data.loader import EpochData
from backbone.errors import UserError
from efficientdet.data.augment import Augment
from efficientdet.data.dataset import DetectionDataset, collate, find_problem
from efficientdet.data.index import AnnotationIndex
from efficientdet.specs import both_sides

log = logging.getLogger(__name__)


class DetectionData(EpochData):
    """Loaders over the splits of a data set.

    Args:
        root: the data set's folder.
        read: takes ``root``, returns the splits: ``train``, ``val`` and, if there is one, ``test``.
        image_size: side of the network's input, or its height and width.
        batch_size: pictures of one step on one device.
        num_workers: worker processes; None takes half of the cores, 8 at most.
        scale: range of the training's scale jitter.
        transforms: albumentations transforms of the training, after the jitter.
        seed: the run's seed.
    """

    def __init__(
        self,
        *,
        root: str,
        read: Callable[[str], Mapping[str, AnnotationIndex]],
        image_size: int | Sequence[int],
        batch_size: int,
        seed: int,
        num_workers: int | None = None,
        scale: Sequence[float] = (0.1, 2.0),
        transforms: Sequence[A.BasicTransform] = (),
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
            raise UserError(f"data.scale={list(scale)}: expected two factors, such as [0.1,2.0]")
        self.size = both_sides(image_size)
        self.scale = (scale[0], scale[1])
        self.transforms = transforms
        self.splits = dict(read(root))
        for name, index in self.splits.items():
            if index.repairs:
                told = ", ".join(f"{count} {repair}" for repair, count in index.repairs.items())
                log.warning("%s split: %s", name, told)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""
        return self.splits["train"].class_names

    def num_pictures(self, split: str) -> int:
        """Return the number of pictures in a split."""
        return len(self.splits[split])

    def find_problem(self, split: str, i: int) -> str:
        """Return why a picture of a split cannot be read, or nothing; see `read_picture`."""
        return find_problem(self.splits[split], i)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the training batches, shuffled and augmented."""
        index = self.splits["train"]
        augment = Augment(self.size, scale=self.scale, transforms=self.transforms)
        return self.shuffled(DetectionDataset(index, augment), len(index), collate=collate)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the validation batches: whole pictures, in order."""
        return self._whole("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the test batches: whole pictures, in order."""
        return self._whole("test")

    def _whole(self, split: str) -> DataLoader[Any]:
        index = self.splits[split]
        dataset = DetectionDataset(index, Augment(self.size))
        return self.in_order(dataset, len(index), collate=collate)


def data_of(trainer: pl.Trainer) -> DetectionData:
    """Return the data module that a trainer was given."""
    return trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]

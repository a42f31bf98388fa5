"""The data module of every detection data set, whatever its format."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import albumentations as A
import cv2
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from backbone.data.sampler import EpochSampler, PartSampler
from backbone.errors import UserError
from efficientdet.data.augment import Augment
from efficientdet.data.dataset import DetectionDataset, collate, find_problem
from efficientdet.data.index import AnnotationIndex
from efficientdet.specs import both_sides

log = logging.getLogger(__name__)


class DetectionData(pl.LightningDataModule):
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
        super().__init__()
        if batch_size < 1:
            raise UserError(f"data.batch_size={batch_size}: expected 1 or more")
        if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
            raise UserError(f"data.scale={list(scale)}: expected two factors, such as [0.1,2.0]")
        self.size = both_sides(image_size)
        self.batch_size = batch_size
        self.seed = seed
        self.num_workers = (
            min(8, (os.cpu_count() or 2) // 2) if num_workers is None else num_workers
        )
        self.scale = (scale[0], scale[1])
        self.transforms = transforms
        self.first_epoch = 0
        self.splits = dict(read(root))
        for name, index in self.splits.items():
            if index.repairs:
                told = ", ".join(f"{count} {repair}" for repair, count in index.repairs.items())
                log.warning("%s split: %s", name, told)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""
        return self.splits["train"].class_names

    def prepare_data(self) -> None:
        """Decode what will be scored: a score without a picture would be wrong, and comes late.

        Raises:
            UserError: a validation or test picture cannot be read; see `read_picture`.
        """
        with ThreadPoolExecutor() as pool:
            for index in (self.splits[name] for name in ("val", "test") if name in self.splits):
                for problem in pool.map(partial(find_problem, index), range(len(index))):
                    if problem:
                        raise UserError(
                            f"data: {problem}; a score without this picture would be wrong, so "
                            "mend it or take it out of the annotations"
                        )

    def state_dict(self) -> dict[str, int]:
        """Return the epoch that a resumed training begins with.

        Lightning tells the sampler as well, but only after the workers have begun to prefetch.
        """
        assert self.trainer is not None
        return {"first_epoch": self.trainer.current_epoch + 1}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Begin with the epoch of `state_dict`."""
        self.first_epoch = state_dict["first_epoch"]

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the training batches, shuffled and augmented."""
        index = self.splits["train"]
        augment = Augment(self.size, scale=self.scale, transforms=self.transforms)
        sampler = EpochSampler(len(index), seed=self.seed, batch_size=self.batch_size)
        sampler.set_epoch(self.first_epoch)
        if len(sampler) == 0:
            raise UserError(
                f"data.batch_size={self.batch_size} is too much for {len(index)} training "
                "pictures on every device; choose a smaller one"
            )
        return self._loader(DetectionDataset(index, augment), sampler)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the validation batches: whole pictures, in order."""
        return self._whole("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the test batches: whole pictures, in order."""
        return self._whole("test")

    def _whole(self, split: str) -> DataLoader[Any]:
        index = self.splits[split]
        return self._loader(DetectionDataset(index, Augment(self.size)), PartSampler(len(index)))

    def _loader(
        self, dataset: DetectionDataset, sampler: EpochSampler | PartSampler
    ) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            worker_init_fn=_one_thread,
            # Its own, or each new iterator would draw from the one that stochastic depth uses.
            generator=torch.Generator(),
        )


def data_of(trainer: pl.Trainer) -> DetectionData:
    """Return the data module that a trainer was given."""
    return trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]


def _one_thread(_: int) -> None:
    """Workers share the cores already; OpenCV's own threads would only fight over them."""
    cv2.setNumThreads(0)

"""The data module of every detection data set, whatever its format."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import albumentations as A
import numpy as np
import pytorch_lightning as pl
from torch.utils.data import DataLoader

from compound.data.loader import EpochData
from compound.errors import UserError
from compound.stages import Stage
from efficientdet.data.augment import PAD_COLOUR, Augment
from efficientdet.data.autoaugment import Policy
from efficientdet.data.dataset import (
    Crowd,
    DetectionDataset,
    collate,
    find_problem,
    without_empty,
)
from efficientdet.data.index import AnnotationIndex
from efficientdet.data.mixing import Mixing
from efficientdet.specs import both_sides

log = logging.getLogger(__name__)

# What training does with pictures in which there is nothing to learn.
Empty = Literal["keep", "drop"]


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
        policy: of the training, by its name, before the jitter; see `Policy`.
        grid_mask: probability of a training picture to lose the squares of a grid.
        mosaic: probability of a training picture to be one of four.
        mixup: probability that another picture shines through a training picture.
        copy_paste: probability that objects of another picture are pasted into a training picture.
        close_mosaic_epochs: how many epochs at the end are without these three.
        crowd: ``train`` learns crowd regions, and what VOC calls difficult, as objects; ``skip``
            leaves them out.
        empty: ``drop`` leaves out training pictures without objects.
        antialias: of evaluation alone, see `ScaleJitter`.
        seed: the run's seed.

    Attributes:
        pad_colour: RGB of what a picture does not cover, read when loaders are made; the module
            that trains sets it to what its network normalises to zero.
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
        transforms: Sequence[A.BasicTransform] | None = (),
        policy: str | None = None,
        grid_mask: float = 0.0,
        mosaic: float = 0.0,
        mixup: float = 0.0,
        copy_paste: float = 0.0,
        close_mosaic_epochs: int = 0,
        crowd: Crowd = "skip",
        empty: Empty = "keep",
        antialias: bool = True,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        numbers = all(isinstance(factor, int | float) for factor in scale)
        if not numbers or len(scale) != 2 or not 0 < scale[0] <= scale[1]:
            raise UserError(f"data.scale={list(scale)}: expected two factors, such as [0.1,2.0]")
        self.mixing = {"mosaic": mosaic, "mixup": mixup, "copy_paste": copy_paste}
        _check_augmentation(policy, {"grid_mask": grid_mask} | self.mixing, close_mosaic_epochs)
        _check_word("crowd", crowd, get_args(Crowd))
        _check_word("empty", empty, get_args(Empty))
        self.size = both_sides(image_size)
        self.scale = (scale[0], scale[1])
        self.transforms = transforms or ()
        self.policy = policy
        self.grid_mask = grid_mask
        self.close_mosaic_epochs = close_mosaic_epochs
        self.crowd: Crowd = crowd
        self.antialias = antialias
        self.pad_colour: tuple[int, int, int] = PAD_COLOUR
        self.splits = dict(read(root))
        for name, index in self.splits.items():
            if index.repairs:
                told = ", ".join(f"{count} {repair}" for repair, count in index.repairs.items())
                log.warning("%s split: %s", name, told)
            _check_objects(name, index)
        if empty == "drop" and "train" in self.splits:
            self._drop_empty()

    collate = staticmethod(collate)

    def num_pictures(self, split: str) -> int:
        """Return the number of pictures in a split."""
        return len(self.splits[split])

    def counts(self, split: str) -> dict[str, int]:
        """Return the number of images and of objects in a split."""
        return super().counts(split) | {"objects": len(self.splits[split].labels)}

    def find_problem(self, split: str, i: int) -> str:
        """Return why a picture of a split cannot be read, or nothing; see `open_picture`."""
        return find_problem(self.splits[split], i)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the training batches, shuffled and augmented."""
        closed_from = self._closed_from()
        if closed_from is not None and closed_from <= 0 and any(self.mixing.values()):
            log.warning(
                "data.close_mosaic_epochs=%d leaves no epoch to mosaic, mixup, copy_paste",
                self.close_mosaic_epochs,
            )
        return super().train_dataloader()

    @property
    def last_stage(self) -> Stage:
        """Return the longer side, RandAugment's magnitude and the probability of mixup."""
        magnitude = 0.0 if self.policy is None else float(Policy(self.policy).magnitude)
        return Stage(max(self.size), magnitude, self.mixing["mixup"], batch_size=self.batch_size)

    def training_set(self, stage: Stage) -> DetectionDataset:
        """Return the training split, augmented unless a few pictures are to be overfitted."""
        factor = stage.image_size / max(self.size)
        size = (round(self.size[0] * factor), round(self.size[1] * factor))
        if not self.augments:
            split = self.splits["train"]
            return DetectionDataset(split, self._letterbox(size), crowd=self.crowd)
        augment = Augment(
            size,
            scale=self.scale,
            transforms=self.transforms,
            policy=self.policy,
            magnitude=stage.magnitude,
            grid_mask=self.grid_mask,
            pad_colour=self.pad_colour,
        )
        mixing = Mixing(**self.mixing | {"mixup": stage.mixup}, closed_from=self._closed_from())
        return DetectionDataset(self.splits["train"], augment, mixing=mixing, crowd=self.crowd)

    def whole(self, split: str) -> DataLoader[Any]:
        """Return the batches of a split: whole pictures, in order."""
        dataset = DetectionDataset(self.splits[split], self._letterbox(self.size))
        return self.in_order(dataset, len(dataset), collate=collate)

    def _letterbox(self, size: tuple[int, int]) -> Augment:
        return Augment(size, pad_colour=self.pad_colour, antialias=self.antialias)

    def pick(self, count: int) -> AnnotationIndex:
        """Return a split of ``count`` training pictures with objects."""
        index = self.splits["train"]
        owners = index.owners
        rich = np.flatnonzero(np.bincount(owners[~index.crowd], minlength=len(index)))
        if count > len(rich):
            raise UserError(f"overfit={count}: only {len(rich)} training pictures have objects")
        chosen = np.zeros(len(index), bool)
        chosen[rich[np.linspace(0, len(rich) - 1, count).round().astype(int)]] = True
        # A picture of nothing but crowds is one without objects.
        return without_empty(replace(index, crowd=index.crowd | ~chosen[owners]), crowd="skip")

    def _drop_empty(self) -> None:
        before = self.splits["train"]
        self.splits["train"] = without_empty(before, crowd=self.crowd)
        count = len(self.splits["train"])
        if not count:
            raise UserError(
                "data.empty=drop leaves no training picture, as none has objects; check the "
                "annotations"
            )
        log.info("train split: %d of %d pictures have objects", count, len(before))

    def _closed_from(self) -> int | None:
        """Return the epoch from which on pictures are not mixed, None if there is none."""
        if not self.close_mosaic_epochs or self.trainer is None:
            return None
        max_epochs = self.trainer.max_epochs
        if max_epochs is None or max_epochs < 0:
            raise UserError(
                f"data.close_mosaic_epochs={self.close_mosaic_epochs}: which epochs are the last "
                "is unknown without trainer.max_epochs; set it, or this to 0"
            )
        return max_epochs - self.close_mosaic_epochs


def data_of(trainer: pl.Trainer) -> DetectionData:
    """Return the data module that a trainer was given."""
    return trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]


def _check_objects(split: str, index: AnnotationIndex) -> None:
    """Refuse a split that teaches nothing, or cannot be scored: crowds are ignored there."""
    if not len(index.boxes) or (split != "train" and index.crowd.all()):
        raise UserError(
            f"data: the {split} split has no object in {len(index)} pictures, so there is nothing "
            "to learn or to score; check its annotations"
        )


def _check_augmentation(
    policy: str | None, probabilities: Mapping[str, float], close_mosaic_epochs: int
) -> None:
    if policy is not None:
        Policy(str(policy))
    for key, value in probabilities.items():
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise UserError(f"data.{key}={value}: expected a probability, such as 0.5")
    if not isinstance(close_mosaic_epochs, int) or close_mosaic_epochs < 0:
        raise UserError(
            f"data.close_mosaic_epochs={close_mosaic_epochs}: expected a number of epochs, such "
            "as 10, or 0"
        )


def _check_word(key: str, word: str, accepted: Sequence[str]) -> None:
    if word not in accepted:
        raise UserError(f"data.{key}={word}: expected {' or '.join(accepted)}")

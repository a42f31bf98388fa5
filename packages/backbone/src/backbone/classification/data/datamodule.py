"""The data module of every classification data set, whatever its format."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytorch_lightning as pl
from torch.utils.data import DataLoader

from backbone.classification.data.augment import EvalTransform, TrainTransform, magnitude
from backbone.classification.data.dataset import ClassificationDataset, collate
from backbone.classification.data.index import ImageIndex
from backbone.specs import Interpolation, Preprocessing
from compound.data.loader import EpochData, check_batch_size
from compound.errors import UserError
from compound.stages import Stage

if TYPE_CHECKING:
    from albumentations import BaseCompose, BasicTransform


class ClassificationData(EpochData):
    """Loaders over the splits of a data set.

    Args:
        root: the data set's folder; None for one that needs none.
        read: takes ``root`` if there is one, returns the splits: ``val``, and if they are there
            ``train`` and ``test``.
        image_size: side of the network's input.
        train_size: the same in training; None takes ``image_size``.
        batch_size: pictures of one step on one device.
        seed: the run's seed.
        num_workers: worker processes; None takes half of the cores, 8 at most.
        eval_batch_size: pictures of one step in evaluation; None takes ``batch_size``.
        in_channels: 3 for colour, 1 for grey.
        interpolation: of all resizing; ``auto`` is what the network's weights ask for.
        crop: see `EvalTransform`; ``auto`` is what the network's weights ask for.
        scale: see `TrainTransform`, and so on.
        ratio: range of the crop's aspect.
        flip: probability of a horizontal flip.
        policy: AutoAugment or RandAugment in timm's words, or None.
        cutout: see `TrainTransform`.
        transforms: albumentations transforms of the training, after all others; None for none.

    Attributes:
        preprocessing: what the network's weights ask for; set by the module that trains it.
    """

    def __init__(
        self,
        *,
        root: str | None,
        read: Callable[..., Mapping[str, ImageIndex]],
        image_size: int,
        batch_size: int,
        seed: int,
        train_size: int | None = None,
        num_workers: int | None = None,
        eval_batch_size: int | None = None,
        in_channels: int = 3,
        interpolation: Interpolation | Literal["auto"] = "auto",
        crop: float | Literal["auto"] | None = "auto",
        scale: Sequence[float] | None = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        flip: float = 0.5,
        policy: str | None = None,
        cutout: float = 0.0,
        transforms: "Sequence[BasicTransform | BaseCompose] | None" = None,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        _check_size("model.image_size", image_size)
        if train_size is not None:
            _check_size("data.train_size", train_size)
        _check(in_channels, interpolation, crop)
        _check_augmentation(scale, ratio, flip, cutout)
        if eval_batch_size is not None:
            check_batch_size("data.eval_batch_size", eval_batch_size)
        self.size = image_size
        self.train_size = image_size if train_size is None else train_size
        self.eval_batch_size = eval_batch_size
        self.grey = in_channels == 1
        given = {"interpolation": interpolation, "crop": crop}
        self._given = {key: value for key, value in given.items() if value != "auto"}
        self.preprocessing = Preprocessing()
        self._policy = policy
        self._augment = partial(
            TrainTransform,
            scale=scale,
            ratio=ratio,
            flip=flip,
            policy=policy,
            cutout=cutout,
            transforms=transforms or (),
        )
        # An invalid policy or transform is refused before data are read.
        self._augment(self.train_size, interpolation="bicubic")
        self.splits = dict(read() if root is None else read(root))

    collate = staticmethod(collate)

    def num_pictures(self, split: str) -> int:
        """Return the number of pictures in a split."""
        return len(self.splits[split].labels)

    def find_problem(self, split: str, i: int) -> str:
        """Return why a picture of a split cannot be read, or nothing."""
        try:
            self.splits[split].source(i).whole()
        except ValueError as error:
            return str(error)
        return ""

    @property
    def last_stage(self) -> Stage:
        """Return the size of the training pictures and RandAugment's magnitude."""
        return Stage(self.train_size, magnitude=magnitude(self._policy), batch_size=self.batch_size)

    def training_set(self, stage: Stage) -> ClassificationDataset:
        """Return the training split, augmented unless a few pictures are to be overfitted."""
        if not self.augments:
            return self._plain("train", stage.image_size)
        augment = self._augment(
            stage.image_size,
            interpolation=self._seen().interpolation,
            magnitude=stage.magnitude,
        )
        return ClassificationDataset(self.splits["train"], augment, grey=self.grey)

    def pick(self, count: int) -> ImageIndex:
        """Return a split of ``count`` training pictures, of as many classes as may be."""
        split = self.splits["train"]
        by_class = np.argsort(split.labels, kind="stable")
        return split.subset(by_class[np.linspace(0, len(by_class) - 1, count).round().astype(int)])

    def whole(self, split: str) -> DataLoader[Any]:
        """Return the batches of a split: whole pictures, in order."""
        dataset = self._plain(split, self.size)
        return self.in_order(
            dataset, len(dataset), collate=collate, batch_size=self.eval_batch_size
        )

    def _plain(self, split: str, size: int) -> ClassificationDataset:
        seen = self._seen()
        transform = EvalTransform(size, interpolation=seen.interpolation, crop=seen.crop)
        return ClassificationDataset(self.splits[split], transform, grey=self.grey)

    def _seen(self) -> Preprocessing:
        return replace(self.preprocessing, **self._given)


def data_of(trainer: pl.Trainer) -> ClassificationData:
    """Return the data module that a trainer was given."""
    return trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]


def _check_size(key: str, size: object) -> None:
    if not isinstance(size, int) or size < 1:
        raise UserError(f"{key}={size}: expected a side in pixels, such as 224")


def _check(in_channels: int, interpolation: str, crop: float | str | None) -> None:
    if in_channels not in (1, 3):
        raise UserError(f"model.in_channels={in_channels}: pictures have 3 channels, or 1 in grey")
    if interpolation not in ("auto", "bicubic", "bilinear"):
        raise UserError(f"data.interpolation={interpolation}: expected auto, bicubic or bilinear")
    if crop not in ("auto", None) and not (isinstance(crop, int | float) and 0 < crop <= 1):
        raise UserError(f"data.crop={crop}: expected auto, null or a share in (0, 1]")


def _check_augmentation(
    scale: Sequence[float] | None, ratio: Sequence[float], flip: float, cutout: float
) -> None:
    if scale is not None and (len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1):
        raise UserError(f"data.scale={list(scale)}: expected null or two shares, as [0.08,1.0]")
    if len(ratio) != 2 or not 0 < ratio[0] <= ratio[1]:
        raise UserError(f"data.ratio={list(ratio)}: expected two ratios, such as [0.75,1.3333]")
    if not 0 <= flip <= 1:
        raise UserError(f"data.flip={flip}: expected a probability, such as 0.5")
    if not 0 <= cutout < 1:
        raise UserError(f"data.cutout={cutout}: expected a share of the side, such as 0.25, or 0")

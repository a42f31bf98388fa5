"""Drawn gradients, and how bright each is on the whole."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from compound.data.loader import EpochData
from compound.stages import Stage


class Batch(NamedTuple):
    """Images ``(B, 3, H, W)`` uint8, numbers ``(B, 1)``, and why images could not be read."""

    images: Tensor
    numbers: Tensor
    unreadable: tuple[str, ...] = ()


@dataclass
class Drawn(Dataset[tuple[np.ndarray, float]]):
    """Gradients of one side, each from its own seed."""

    seeds: range
    side: int

    def __getitem__(self, draw: Any) -> tuple[np.ndarray, float]:
        """Return an image and its brightness in 0..1; ``draw`` is a position, or has one."""
        row = draw if isinstance(draw, int) else draw.index
        low, high = np.sort(np.random.default_rng(self.seeds[row]).uniform(0, 255, 2))
        line = np.linspace(low, high, self.side)
        image = np.broadcast_to(line[:, None], (self.side, self.side, 3)).astype(np.uint8)
        return image, (low + high) / 510


class Gradients(EpochData):
    """Loaders of drawn gradients."""

    class_names = ("brightness",)

    def __init__(
        self,
        *,
        root: None,
        image_size: int,
        num_train: int,
        num_val: int,
        batch_size: int,
        num_workers: int,
        seed: int,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        self.size = image_size
        self.splits = {"train": range(num_train), "val": range(num_train, num_train + num_val)}

    def num_pictures(self, split: str) -> int:
        """Return the number of images in a split."""
        return len(self.splits[split])

    def find_problem(self, split: str, i: int) -> str:
        """Return nothing: drawn images are readable."""
        return ""

    @property
    def last_stage(self) -> Stage:
        """Return the size that is trained with."""
        return Stage(self.size, batch_size=self.batch_size)

    def training_set(self, stage: Stage) -> Drawn:
        """Return the training split."""
        return Drawn(self.splits["train"], stage.image_size)

    def pick(self, count: int) -> range:
        """Return the first training images."""
        return self.splits["train"][:count]

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the training batches."""
        return self.shuffled(collate=collate)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the validation split."""
        return self.whole("val")

    def whole(self, split: str) -> DataLoader[Any]:
        """Return a split in order."""
        shown = Drawn(self.splits[split], self.size)
        return self.in_order(shown, self.num_pictures(split), collate=collate)


def collate(samples: list[tuple[np.ndarray, float]]) -> Batch:
    """Join samples to a batch."""
    images = torch.from_numpy(np.stack([image for image, _ in samples])).permute(0, 3, 1, 2)
    return Batch(images, torch.tensor([[number] for _, number in samples], dtype=torch.float32))

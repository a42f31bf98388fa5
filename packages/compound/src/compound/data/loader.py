"""What the data modules of all tasks share: loaders that repeat exactly, and resuming."""

import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

import cv2
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from compound.data.sampler import Draw, EpochSampler, PartSampler
from compound.errors import UserError
from compound.stages import Progression, Stage


class EpochData(pl.LightningDataModule):
    """Loaders whose epochs follow from seed and epoch alone, also after resuming.

    Args:
        batch_size: pictures of one step on one device.
        num_workers: worker processes; None takes half of the cores, 8 at most.
        seed: the run's seed.

    Attributes:
        progression: the stages of a progressive training, read when loaders are made.
        augments: whether training pictures are augmented; `overfit` leaves it out.

    Raises:
        UserError: the batch is no whole number, or empty.
    """

    def __init__(self, *, batch_size: int, num_workers: int | None, seed: int) -> None:
        super().__init__()
        check_batch_size("data.batch_size", batch_size)
        if num_workers is not None and num_workers < 0:
            raise UserError(f"data.num_workers={num_workers}: expected 0 or more, or null")
        if seed < 0:
            raise UserError(f"seed={seed}: expected 0 or more")
        self.batch_size = batch_size
        self.seed = seed
        self.num_workers = (
            min(8, (os.cpu_count() or 2) // 2) if num_workers is None else num_workers
        )
        self.first_epoch = 0
        self.progression: Progression | None = None
        self.augments = True
        self.splits: dict[str, Any] = {}
        self._checked: set[str] = set()

    def check(self, splits: Iterable[str]) -> None:
        """Decode what will be scored, once: a score without a picture would be wrong.

        Raises:
            UserError: a picture of these splits cannot be read.
        """
        for split in splits:
            if split in self.splits and split not in self._checked:
                find_problem = partial(self.find_problem, split)
                with ThreadPoolExecutor() as pool:
                    for problem in pool.map(find_problem, range(self.num_pictures(split))):
                        if problem:
                            raise UserError(
                                f"data: {problem}; a score without this picture would be wrong, so "
                                "mend it or take it out"
                            )
                self._checked.add(split)

    def prepare_data(self) -> None:
        """Check validation and test pictures, unless a tool has chosen what to check before."""
        if not self._checked:
            self.check(("val", "test"))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""
        return next(iter(self.splits.values())).class_names

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the training batches, shuffled and augmented."""
        if "train" not in self.splits:
            raise UserError("data: this data set is for evaluation only; it has no training split")
        return self.shuffled(collate=self.collate)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the validation batches: whole pictures, in order."""
        return self.whole("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the test batches: whole pictures, in order."""
        if "test" not in self.splits:
            raise UserError("data: this data set has no test split; evaluate on val")
        return self.whole("test")

    @staticmethod
    @abstractmethod
    def collate(samples: Sequence[Any]) -> Any:
        """Return the batch that samples make."""

    @abstractmethod
    def whole(self, split: str) -> DataLoader[Any]:
        """Return the batches of a split: whole pictures, in order."""

    @abstractmethod
    def num_pictures(self, split: str) -> int:
        """Return the number of pictures in a split."""

    def counts(self, split: str) -> dict[str, int]:
        """Return how much a split holds, by what is counted."""
        return {"pictures": self.num_pictures(split)}

    @abstractmethod
    def find_problem(self, split: str, i: int) -> str:
        """Return why a picture of a split cannot be read, or nothing."""

    @property
    @abstractmethod
    def last_stage(self) -> Stage:
        """Return what a training shows if it is not progressive, and at the end if it is."""

    @abstractmethod
    def training_set(self, stage: Stage) -> Dataset[Any]:
        """Return the training split as a stage shows it, to be indexed by a `Draw`."""

    @abstractmethod
    def pick(self, count: int) -> Any:
        """Return a split of ``count`` training pictures from all over the training split."""

    def overfit(self, count: int) -> None:
        """Train on a few training pictures, not augmented, and score the same ones.

        Raises:
            UserError: there are not so many.
        """
        there = self.num_pictures("train") if "train" in self.splits else 0
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= there:
            raise UserError(
                f"overfit={count}: expected a whole number of pictures, 1 or more of the {there} "
                "that the training split has"
            )
        few = self.pick(count)
        self.splits = {"train": few, "val": few}
        self.augments = False

    def samples(self, count: int) -> list[Any]:
        """Return some training pictures as the network sees them at the end of a training."""
        if "train" not in self.splits:
            return []
        shown = self.training_set(self.last_stage)
        sampler = EpochSampler(self.num_pictures("train"), seed=self.seed, batch_size=1)
        return [shown[draw] for draw in islice(sampler, count)]

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch that a resumed training begins with, and the stages it goes through.

        Lightning tells the sampler as well, but only after the workers have begun to prefetch.
        """
        assert self.trainer is not None
        stages = None if self.progression is None else self.progression.to_dict()
        return {"first_epoch": self.trainer.current_epoch + 1, "progression": stages}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Begin with the epoch of `state_dict`."""
        self.first_epoch = state_dict["first_epoch"]

    def shuffled(self, *, collate: Callable[..., Any]) -> DataLoader[Any]:
        """Return training batches, shuffled anew each epoch and as each stage shows them.

        Raises:
            UserError: there are not enough pictures for one batch on every device.
        """
        stages = (self.last_stage,) if self.progression is None else self.progression.stages
        num_pictures = self.num_pictures("train")
        epoch = max(self.first_epoch, self.trainer.current_epoch if self.trainer else 0)
        batch_size = self.batch_size_in(epoch)
        sampler = EpochSampler(
            num_pictures, seed=self.seed, batch_size=batch_size, progression=self.progression
        )
        sampler.set_epoch(epoch)
        sampler.num_batches = self._limited(len(sampler) // batch_size)
        if len(sampler) == 0:
            raise UserError(
                f"data.batch_size={self.batch_size} is too much for {num_pictures} training "
                "pictures on every device; choose a smaller one"
            )
        dataset = Staged([self.training_set(stage) for stage in stages])
        return self._loader(dataset, sampler, batch_size, collate)

    def batch_size_in(self, epoch: int) -> int:
        """Return how many pictures the training's steps take in an epoch."""
        if self.progression is None:
            return self.batch_size
        return self.progression.stages[self.progression.at(epoch + 1)].batch_size

    def _limited(self, batches: int) -> int:
        """Return how many of an epoch's batches Lightning will take."""
        limit = None if self.trainer is None else self.trainer.limit_train_batches
        if limit is None:
            return batches
        return min(limit, batches) if isinstance(limit, int) else int(limit * batches)

    def in_order(
        self,
        dataset: Dataset[Any],
        num_pictures: int,
        *,
        collate: Callable[..., Any],
        batch_size: int | None = None,
    ) -> DataLoader[Any]:
        """Return batches of every picture once."""
        sampler = PartSampler(num_pictures)
        if len(sampler) == 0:
            raise UserError(
                f"data: {num_pictures} pictures to score are fewer than the processes; take fewer"
            )
        return self._loader(dataset, sampler, batch_size or self.batch_size, collate)

    def _loader(
        self,
        dataset: Dataset[Any],
        sampler: EpochSampler | PartSampler,
        batch_size: int,
        collate: Callable[..., Any],
    ) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            worker_init_fn=_one_thread,
            # Its own, or each new iterator would draw from the one that stochastic depth uses.
            generator=torch.Generator(),
        )


class Staged(Dataset[Any]):
    """The training pictures as the stages of a progressive training show them.

    Every draw says its stage, so that no batch that was read ahead is of another one.
    """

    def __init__(self, stages: Sequence[Dataset[Any]]) -> None:
        self.stages = stages

    def __getitem__(self, draw: Draw) -> Any:
        """Return the picture of a draw."""
        return self.stages[draw.stage][draw]


def check_batch_size(key: str, value: object) -> None:
    """Refuse a batch that is no whole number of 1 or more."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        advice = "; only a training finds it by itself" if value == "auto" else ""
        raise UserError(f"{key}={value}: expected a whole number of 1 or more{advice}")


def _one_thread(_: int) -> None:
    """Workers share the cores already; OpenCV's own threads would only fight over them."""
    cv2.setNumThreads(0)

"""Which pictures an epoch shows, in what order, and with which random numbers.

All of it follows from seed and epoch alone. Hence a run is repeatable whatever the number of
worker processes, no two workers or epochs draw the same augmentations, and a resumed run goes on
as if it had never stopped.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch.utils.data import Sampler

from compound.stages import Progression


class Draw(NamedTuple):
    """One picture of an epoch: its index in the data set and the seed of its augmentation.

    Epoch and stage travel along because worker processes outlive them and read ahead: they learn
    them from nobody else.
    """

    index: int
    seed: int
    epoch: int = 0
    stage: int = 0


class EpochSampler(Sampler[Draw]):
    """Shuffle anew each epoch; with several processes each gets its own part.

    Args:
        num_pictures: size of the data set.
        seed: the run's seed.
        batch_size: pictures of a batch. What does not fill a last batch in every process is left
            out of the epoch, never the same pictures twice; the shuffle picks others next time.
        progression: the training's stages, if it has several.

    Attributes:
        num_batches: of an epoch, where not all are trained with; stages are shares of these.
    """

    def __init__(
        self,
        num_pictures: int,
        *,
        seed: int,
        batch_size: int,
        progression: Progression | None = None,
    ) -> None:
        self.num_pictures = num_pictures
        self.seed = seed
        self.batch_size = batch_size
        self.progression = progression
        self.num_batches: int | None = None
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration runs through; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of pictures that one process sees in an epoch."""
        _, world = _rank_and_world()
        return self.num_pictures // (world * self.batch_size) * self.batch_size

    def __iter__(self) -> Iterator[Draw]:
        """Yield this process's draws of the current epoch."""
        rank, world = _rank_and_world()
        epoch = self.epoch
        # Two integers into one seed: epochs and seeds stay apart up to 2**20 epochs.
        generator = torch.Generator().manual_seed(self.seed * 2**20 + epoch)
        order = torch.randperm(self.num_pictures, generator=generator)
        seeds = torch.randint(2**31, (self.num_pictures,), generator=generator)
        for i, index in enumerate(order[rank::world][: len(self)].tolist()):
            stage = self.stage_of(i // self.batch_size, epoch)
            yield Draw(index, int(seeds[index]), epoch, stage)

    def stage_of(self, batch: int, epoch: int) -> int:
        """Return the stage that a batch of an epoch belongs to."""
        if self.progression is None:
            return 0
        batches = self.num_batches or len(self) // self.batch_size
        return self.progression.at(epoch + (batch + 1) / batches)


class PartSampler(Sampler[Draw]):
    """Every picture once and in order, shared out over the processes without padding."""

    def __init__(self, num_pictures: int) -> None:
        self.num_pictures = num_pictures

    def __len__(self) -> int:
        """Return the number of pictures that this process sees."""
        rank, world = _rank_and_world()
        return len(range(rank, self.num_pictures, world))

    def __iter__(self) -> Iterator[Draw]:
        """Yield this process's pictures; nothing about them is random."""
        rank, world = _rank_and_world()
        for index in range(rank, self.num_pictures, world):
            yield Draw(index, 0)


def _rank_and_world() -> tuple[int, int]:
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1

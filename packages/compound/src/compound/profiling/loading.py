"""How many pictures a second the loader of a training gives, and its batches."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader

from compound.profiling.settings import Settings

# Batches that are used in turns: the objects of a picture, and so the loss's work, differ.
KEPT = 4


@dataclass(frozen=True, slots=True)
class Loader:
    """A training's batches, and how fast they come if nothing else is done."""

    batches: Iterator[Any]
    num_workers: int
    images_per_second: float
    kept: Sequence[Any]

    def counted(self, rounds: int) -> int:
        """Return as many batches or more, the same number of every worker: they come in bursts."""
        workers = max(1, self.num_workers)
        return -(-rounds // workers) * workers


def measure_loader(loader: DataLoader[Any], settings: Settings) -> Loader:
    """Return the rate of a training's loader, epoch after epoch, on the idle machine."""
    batches = _endless(loader)
    # Two batches a worker are on their way when the first one comes.
    skipped = max(1, settings.warmup + 2 * loader.num_workers)
    kept = tuple(deque(islice(batches, skipped), maxlen=KEPT))
    found = Loader(batches, loader.num_workers, 0.0, kept)
    began = time.perf_counter()
    pictures = sum(len(b.images) for b in islice(batches, found.counted(settings.rounds)))
    rate = pictures / (time.perf_counter() - began)
    return replace(found, images_per_second=rate)


def _endless(loader: DataLoader[Any]) -> Iterator[Any]:
    while True:
        yield from loader

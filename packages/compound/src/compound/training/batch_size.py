"""The largest batch that fits, by real steps of training and validation."""

import gc
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from compound.data.loader import EpochData
from compound.errors import UserError
from compound.profiling.memory import Peak, available, resident
from compound.training.dry_run import NewTrainer, Trial, trial

# Of the free memory so much stays free: batches differ, allocators leave gaps, others work here.
MARGIN = 0.2
# Batch norm needs two pictures; the sizes are powers of two.
SMALLEST = 2
# Steps that an epoch keeps: a rate that follows the batch cannot make up for fewer.
EPOCH_STEPS = 10
# A CPU has no error of a full memory, only the kernel's killer, and gains nothing from larger
# batches than this.
CPU_MOST = 32


@dataclass(frozen=True, slots=True)
class Fit:
    """What was found.

    Attributes:
        size: pictures of a batch.
        reason: what a batch takes, and why it is no larger.
    """

    size: int
    reason: str


def largest_batch(module: Any, data: EpochData, new_trainer: NewTrainer, *, folder: Path) -> Fit:
    """Try batches that double, up to what fits and leaves an epoch its steps.

    A GPU's memory may run full. On a CPU a batch is tried only if twice the memory of the one
    before is free, and none is larger than `CPU_MOST`. Of a progressive training the last stage is
    tried.

    Args:
        module: of any task, not trained yet.
        data: its data.
        new_trainer: makes the run's trainer.
        folder: of the run.

    Raises:
        UserError: it cannot be tried on these devices, or not even the smallest batch fits.
    """
    with trial(module, data, new_trainer, folder) as tried:
        trainer = tried.new_trainer()
        device = trainer.strategy.root_device.type
        _check(trainer, device)
        most = data.num_pictures("train") // (EPOCH_STEPS * trainer.accumulate_grad_batches)
    most = max(SMALLEST, 2 ** int(math.log2(max(1, most))))
    limit = f"more would leave an epoch fewer than {EPOCH_STEPS} steps"
    if device == "cpu" and most > CPU_MOST:
        most, limit = CPU_MOST, "a CPU gains nothing from more"
    before, peak = resident(), Peak(device)
    taken: dict[int, float] = {}
    size, room = SMALLEST, math.inf
    while size <= most and not (device == "cpu" and 2 * taken.get(size // 2, 0.0) > room):
        peak.begin_anew()
        with trial(module, data, new_trainer, folder) as tried:
            watch = _Room(device, before)  # Lightning ties it to its module
            fitted = _steps(tried, size, watch)
        taken[size] = peak.gibibytes() * 2**30 if fitted else math.inf
        room = min(room, watch.room)
        del tried, watch
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
        if taken[size] > room:
            break
        size *= 2
    return _judged(taken, room, most, limit)


class _Room(pl.Callback):
    """Watch what steps might take.

    Args:
        device: what they run on.
        before: resident bytes before the first of them.

    Attributes:
        room: bytes that this process may take besides those, less the margin; the least of all
            steps, as loaders' workers take their part.
    """

    def __init__(self, device: str, before: int) -> None:
        self.cuda = device == "cuda"
        self.before = before
        self.room = math.inf

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        """Look how much is left."""
        if self.cuda:
            device = trainer.strategy.root_device
            there = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
        else:
            there = (available() or 0) + resident() - self.before
        self.room = min(self.room, (1 - MARGIN) * there)


def _check(trainer: pl.Trainer, device: str) -> None:
    if trainer.world_size > 1:
        raise UserError(
            "data.batch_size=auto: it is found on one device; run it once with trainer.devices=1 "
            "trainer.max_steps=1 and give what it says"
        )
    if device not in ("cpu", "cuda") or (device == "cpu" and available() is None):
        raise UserError(
            f"data.batch_size=auto: this system does not tell what memory is free for {device}; "
            "give a number"
        )


def _steps(tried: Trial, size: int, watch: _Room) -> bool:
    """Train and validate for a moment; return whether it fits."""
    tried.module.batch_size = tried.data.batch_size = size
    trainer = tried.new_trainer(
        callbacks=[watch],
        max_epochs=1,
        max_steps=-1,
        limit_train_batches=2,  # the second has what an optimizer keeps beside it
        limit_val_batches=1,
        accumulate_grad_batches=1,
        check_val_every_n_epoch=1,
    )
    try:
        trainer.fit(tried.module, datamodule=tried.data)
    except torch.OutOfMemoryError:
        return False
    return True


def _judged(taken: Mapping[int, float], room: float, most: int, limit: str) -> Fit:
    fitting = {size: used for size, used in taken.items() if used <= room}
    if not fitting:
        raise UserError(
            f"data.batch_size=auto: {SMALLEST} pictures do not fit into the {_gib(room)} that may "
            "be taken; choose a smaller network or model.image_size, or task.recompute"
        )
    size = max(fitting)
    reason = f"twice as many would not fit into the {_gib(room)} that may be taken"
    if size == most:
        reason = limit
    return Fit(size, f"{_gib(fitting[size])}; {reason}")


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"

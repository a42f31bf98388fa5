"""Learning-rate schedules as pure functions of the time, which counts in epochs.

Batches may grow or shrink from epoch to epoch, so that steps are no measure of time.
"""

import math
from typing import Protocol

import pytorch_lightning as pl

from compound.errors import UserError
from compound.stages import Progression


class Schedule(Protocol):
    """Returns the factor on the peak learning rate."""

    def __call__(self, epoch: float, *, epochs: float, warmup: float) -> float:
        """Return the factor after ``epoch`` of ``epochs``, with ``warmup`` epochs of warm-up."""
        ...


def warmup_cosine(
    epoch: float, *, epochs: float, warmup: float, warmup_start: float = 0.1
) -> float:
    """Return the factor of EfficientDet: linear warm-up, then half a cosine to zero.

    The official EfficientDet code leaves the cosine unshifted by the warm-up, so that it is zero
    one warm-up before the end and rises again; here it is zero at the end. At 300 epochs with
    one of warm-up the two differ by less than 0.6 % of the peak.

    Args:
        epoch: time since the start.
        epochs: length of the whole training.
        warmup: length of the warm-up.
        warmup_start: factor at the start (official: 0.008 / 0.08).
    """
    if epoch < warmup:
        return warmup_start + (1 - warmup_start) * epoch / warmup
    if epoch >= epochs:
        return 0.0
    return 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup)))


def warmup_staircase(
    epoch: float,
    *,
    epochs: float,
    warmup: float,
    decay_rate: float = 0.97,
    decay_epochs: float = 2.4,
) -> float:
    """Return the factor of EfficientNet: linear warm-up from zero, then steps down.

    The steps are counted from the start, so that two are taken when five epochs of warm-up end
    (official `build_learning_rate`; arXiv:1905.11946, Sec. 5.2). It does not look at ``epochs``.

    Args:
        epoch: time since the start.
        epochs: length of the whole training.
        warmup: length of the warm-up.
        decay_rate: factor of one step.
        decay_epochs: epochs between two steps.
    """
    if epoch < warmup:
        return epoch / warmup
    return decay_rate ** math.floor(epoch / decay_epochs)


def warmup_constant(epoch: float, *, epochs: float, warmup: float) -> float:
    """Return the factor of EfficientNetV2's official fine-tuning: linear warm-up, then one rate.

    The paper says cosine (arXiv:2104.00298, Sec. 5.1). It does not look at ``epochs``.

    Args:
        epoch: time since the start.
        epochs: length of the whole training.
        warmup: length of the warm-up.
    """
    return epoch / warmup if epoch < warmup else 1.0


def epochs_done(trainer: pl.Trainer) -> float:
    """Return the epochs that a training has behind it, the batch that it works on included."""
    batches = trainer.fit_loop.epoch_loop.batch_idx + 1
    return trainer.current_epoch + batches / int(trainer.num_training_batches)


def epochs_in_all(trainer: pl.Trainer) -> float:
    """Return the length of a training that has not begun.

    Raises:
        UserError: it has no end.
    """
    steps = trainer.estimated_stepping_batches  # which makes the loaders, if it has to
    if math.isinf(steps) or math.isinf(trainer.num_training_batches):
        raise UserError("trainer.max_epochs: the schedule needs an end; give a number of epochs")
    batches = math.ceil(int(trainer.num_training_batches) / trainer.accumulate_grad_batches)
    return int(steps) / batches


def progression_of(trainer: pl.Trainer) -> Progression | None:
    """Return the stages that a training goes through, if it is progressive."""
    return getattr(getattr(trainer, "datamodule", None), "progression", None)

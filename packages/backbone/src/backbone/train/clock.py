"""The time of a training, which counts in epochs.

Batches may grow or shrink from epoch to epoch, so that steps are no measure of it.
"""

import math

import pytorch_lightning as pl

from backbone.errors import UserError
from backbone.stages import Progression


def epochs_done(trainer: pl.Trainer) -> float:
    """Return the epochs that a training has behind it, the batch that it works on included."""
    batches = trainer.fit_loop.epoch_loop.batch_idx + 1
    return trainer.current_epoch + batches / int(trainer.num_training_batches)


def epochs_in_all(trainer: pl.Trainer) -> float:
    """Return the length of a training that has not begun.

    Raises:
        UserError: it has no end.
    """
    if math.isinf(trainer.estimated_stepping_batches):
        raise UserError("trainer.max_epochs=-1: the schedule needs an end; give a number")
    return int(trainer.estimated_stepping_batches) / steps_in_epoch(trainer)


def progression_of(trainer: pl.Trainer) -> Progression | None:
    """Return the stages that a training goes through, if it is progressive."""
    return getattr(getattr(trainer, "datamodule", None), "progression", None)


def steps_in_epoch(trainer: pl.Trainer) -> int:
    """Return how often the optimizer steps in the current epoch."""
    return math.ceil(int(trainer.num_training_batches) / trainer.accumulate_grad_batches)

"""The time of a training, which counts in epochs.

Batches may grow or shrink from epoch to epoch, so that steps are no measure of it.
"""

import math

import pytorch_lightning as pl

from compound.errors import UserError
from compound.stages import Progression


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

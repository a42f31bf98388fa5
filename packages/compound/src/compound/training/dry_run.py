"""Training for a moment to learn something of a training, which is not to notice."""

import io
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from copy import copy, deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities.seed import isolate_rng

from compound.data.loader import EpochData

# Makes the run's trainer, but for what it is given.
NewTrainer = Callable[..., pl.Trainer]


@dataclass(frozen=True, slots=True)
class Trial:
    """What may be spoiled.

    Attributes:
        module: a copy.
        data: a copy that shares the pictures; of a progressive training it shows the last stage.
        new_trainer: makes the run's trainer without loggers, callbacks and anything on the screen,
            which writes into a folder that goes with the trial.
    """

    module: Any
    data: EpochData
    new_trainer: NewTrainer


@contextmanager
def trial(
    module: pl.LightningModule, data: EpochData, new_trainer: NewTrainer, folder: Path
) -> Iterator[Trial]:
    """Give copies to train; weights, statistics, epochs and random numbers stay as they are.

    Args:
        module: has not been trained yet.
        data: likewise.
        new_trainer: makes the run's trainer.
        folder: of the run; every process of the training has it.
    """

    def made(**arguments: Any) -> pl.Trainer:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
        return new_trainer(**quiet, profiler=None, default_root_dir=scratch, **arguments)

    shown = copy(data)
    shown.progression = None
    with isolate_rng(), TemporaryDirectory(prefix=".trial-", dir=folder) as scratch, _quiet():
        yield Trial(deepcopy(module), shown, made)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Lightning says of a trial from the log, and its tuner's bar from files."""
    told = logging.getLogger("pytorch_lightning")
    before = told.level
    told.setLevel(logging.CRITICAL)
    bar = nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO())
    try:
        with bar:
            yield
    finally:
        told.setLevel(before)

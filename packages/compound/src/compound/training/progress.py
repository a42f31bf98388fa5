"""What the terminal shows while a training runs."""

import logging
import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import RichProgressBar

from compound.profiling.memory import peak_resident
from compound.training.schedule import epochs_done, epochs_in_all, progression_of

log = logging.getLogger(__name__)


class Progress(RichProgressBar):
    """Lightning's rich bar with images/s, time left and memory, and a logged line for every score.

    Images/s and the time left include everything: loading, validation, checkpoints. In a
    progressive training images/s falls as pictures grow, which the time left foresees. Memory is
    the peak of the GPU where there is one, else the peak of this process.
    """

    def __init__(self) -> None:
        super().__init__(refresh_rate=5)
        self._started = 0.0
        self._pictures = 0
        self._work_before = 0.0
        self._epochs = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        super().on_train_start(trainer, pl_module)
        self._started = time.monotonic()
        self._pictures = 0
        self._epochs = epochs_in_all(trainer)
        self._work_before = self._work(trainer, float(trainer.current_epoch))

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count the pictures."""
        self._pictures += len(batch.images) * trainer.world_size
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return what is shown beside the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        metrics.update(self._pace(trainer))
        return metrics

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the scores of this validation."""
        super().on_validation_end(trainer, pl_module)
        if trainer.state.fn != "fit" or trainer.sanity_checking or not trainer.is_global_zero:
            return
        shown = {**trainer.progress_bar_metrics, **self._pace(trainer)}
        values = "  ".join(f"{key} {_text(value)}" for key, value in shown.items())
        log.info("epoch %d/%d  %s", trainer.current_epoch + 1, trainer.max_epochs, values)

    def _pace(self, trainer: pl.Trainer) -> dict[str, str]:
        if not self._pictures:
            return {}
        seconds = time.monotonic() - self._started
        work = self._work(trainer, epochs_done(trainer))
        left = seconds * (1 - work) / (work - self._work_before)
        return {
            "images/s": f"{self._pictures / seconds:.1f}",
            "left": f"{int(left // 3600)}:{int(left % 3600 // 60):02d}:{int(left % 60):02d}",
            "memory": f"{peak_memory() / 2**30:.1f}G",
        }

    def _work(self, trainer: pl.Trainer, epochs: float) -> float:
        """Return the share of the work that is done, larger pictures counting for more."""
        progression = progression_of(trainer)
        return progression.work_done(epochs) if progression else epochs / self._epochs


def peak_memory() -> int:
    """Return the most bytes so far: on the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return peak_resident()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else f"{float(value):.3f}"

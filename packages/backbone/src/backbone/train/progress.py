"""What the terminal shows while a training runs."""

import logging
import resource
import sys
import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import RichProgressBar

log = logging.getLogger(__name__)

# ru_maxrss counts kibibytes on Linux and bytes on macOS.
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class Progress(RichProgressBar):
    """Lightning's rich bar with images/s, time left and memory, and a logged line for every score.

    Images/s and the time left include everything: loading, validation, checkpoints. Memory is
    the peak of the GPU where there is one, else the peak of this process.
    """

    def __init__(self) -> None:
        super().__init__(refresh_rate=5)
        self._started = 0.0
        self._first_step = 0
        self._batch_size = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        super().on_train_start(trainer, pl_module)
        self._started = time.monotonic()
        self._first_step = trainer.global_step
        self._batch_size = getattr(trainer.train_dataloader, "batch_size", 0)

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
        steps = trainer.global_step - self._first_step
        if steps < 1:
            return {}
        seconds = (time.monotonic() - self._started) / steps
        left = (int(trainer.estimated_stepping_batches) - trainer.global_step) * seconds
        images = self._batch_size * trainer.world_size * trainer.accumulate_grad_batches
        return {
            "images/s": f"{images / seconds:.1f}",
            "left": f"{int(left // 3600)}:{int(left % 3600 // 60):02d}:{int(left % 60):02d}",
            "memory": f"{_peak_memory() / 2**30:.1f}G",
        }


def _peak_memory() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


def _text(value: Any) -> str:
    return value if isinstance(value, str) else f"{float(value):.3f}"

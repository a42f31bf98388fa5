"""What a training is watched by: learning rate, gradients, speed and memory."""

import time
from typing import Any

import pytorch_lightning as pl
import torch
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from compound.training.progress import peak_memory


class Vitals(pl.Callback):
    """Log every ``trainer.log_every_n_steps`` steps, for every tracker alike.

    - ``optim/lr``: the largest learning rate of the step; ``optim/lr_lowest`` the smallest, where
      layers have rates of their own.
    - ``optim/grad_norm``: the norm of all gradients, before they are clipped.
    - ``speed/images_per_second``: of all processes since it was last logged. Loading counts;
      validation and checkpoints do not.
    - ``memory/peak_gib``: the peak so far, of the GPU where there is one, else of this process.

    Once an epoch ``speed/train_seconds`` and, where it was validated, ``speed/val_seconds``.

    What is logged waits for a GPU no more often than Lightning does to log the loss.
    """

    def __init__(self) -> None:
        self._due = False
        self._began = 0.0
        self._validation_began = 0.0
        self._pictures = 0
        self._seconds = 0.0
        self._train_seconds = 0.0
        self._val_seconds = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._began = time.monotonic()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to count an epoch's time."""
        self._began = time.monotonic()
        self._train_seconds = self._val_seconds = 0.0

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Log rates and gradients, if the step is one that is logged."""
        every = getattr(trainer, "log_every_n_steps", 0) if trainer.loggers else 0
        self._due = every > 0 and (trainer.global_step + 1) % every == 0
        if not self._due:
            return
        rates = [group["lr"] for group in optimizer.param_groups]
        _log(pl_module, "optim/lr", max(rates))
        if min(rates) < max(rates):
            _log(pl_module, "optim/lr_lowest", min(rates))
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        pl_module.log("optim/grad_norm", get_total_norm(gradients))

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count pictures and time; log speed and memory, if the step is one that is logged."""
        if self._due and pl_module.device.type == "cuda":
            torch.cuda.synchronize()  # as logging the loss is about to do
        now = time.monotonic()
        seconds, self._began = now - self._began, now
        self._seconds += seconds
        self._train_seconds += seconds
        self._pictures += len(batch.images) * trainer.world_size
        if self._due:
            _log(pl_module, "speed/images_per_second", self._pictures / self._seconds)
            _log(pl_module, "memory/peak_gib", peak_memory() / 2**30)
            self._pictures, self._seconds, self._due = 0, 0.0, False

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the training's clock."""
        self._validation_began = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start it again, for validations within an epoch."""
        self._began = time.monotonic()
        self._val_seconds += self._began - self._validation_began

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log what the epoch took; its validation is over by now."""
        if trainer.loggers and self._train_seconds:  # none where a resumed run skips an epoch
            _log(pl_module, "speed/train_seconds", self._train_seconds)
            if self._val_seconds:
                _log(pl_module, "speed/val_seconds", self._val_seconds)


def _log(module: pl.LightningModule, name: str, value: float) -> None:
    """Log a number that is not on the device, in all of its digits."""
    module.log(name, torch.tensor(value, dtype=torch.float64))

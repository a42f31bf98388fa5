"""Exponential moving average of weights and batch-norm statistics."""

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

from compound.errors import UserError


class Ema(WeightAveraging):
    """Average the weights after every step; evaluate and publish the average.

    The decay starts low and rises, ``min(decay, (1 + n) / (10 + n))`` after n steps, as
    TensorFlow's does when it is told the step. Lightning swaps the average in for validation and
    stores it as a checkpoint's ``state_dict``; the raw weights travel beside it for resuming.

    Args:
        decay: the decay it approaches, 0.9998 for EfficientDet.
    """

    def __init__(self, decay: float) -> None:
        if not 0 <= decay < 1:
            raise UserError(f"callbacks.ema.decay={decay}: expected a share in [0, 1)")
        self.decay = decay
        super().__init__(use_buffers=True, multi_avg_fn=self._average)

    @torch.no_grad()
    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Swap the average in, with batch-norm statistics that all processes agree on.

        Each process moves its own statistics; the mean of them is scored and saved.
        """
        if self._average_model is not None and dist.is_available() and dist.is_initialized():
            for buffer in self._average_model.buffers():
                if buffer.is_floating_point():
                    dist.all_reduce(buffer)
                    buffer.div_(dist.get_world_size())
        super().on_validation_epoch_start(trainer, pl_module)

    @torch.no_grad()
    def _average(
        self, averages: list[Tensor], values: list[Tensor], num_averaged: Tensor | int
    ) -> None:
        steps = int(num_averaged)
        decay = min(self.decay, (1 + steps) / (10 + steps))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
                averages, values, 1 - decay
            )
        else:  # counters of batch norms
            for average, value in zip(averages, values, strict=True):
                average.copy_(value)

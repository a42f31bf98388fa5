"""Batch-norm statistics that are right from the first steps."""

import pytorch_lightning as pl
from torch import nn

from backbone.layers import BN_MOMENTUM


class BatchNormWarmup(pl.Callback):
    """Let running statistics be plain means until the official momentum takes over.

    With a momentum of 0.01 the initial variance of 1 still weighs 5 % after 300 steps, which
    drowns the small variances behind freshly drawn convolutions and ruins the first evaluations.
    Step n of a training therefore uses ``max(0.01, 1 / n)``: nothing of the initial values stays,
    and from step 100 on it is the official code, which has no such warm-up.
    """

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Set the momentum of this step."""
        if trainer.global_step > 1 / BN_MOMENTUM:
            return
        for layer in pl_module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = max(BN_MOMENTUM, 1 / (trainer.global_step + 1))

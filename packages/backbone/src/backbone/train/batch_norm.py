"""Batch-norm statistics that are right from the first steps and hold still at the end."""

import pytorch_lightning as pl
from torch import nn

from backbone.layers import BN_MOMENTUM


class BatchNormSchedule(pl.Callback):
    """Warm the running statistics up, and let the last part of a short training use them.

    With a momentum of 0.01 the initial variance of 1 still weighs 5 % after 300 steps, which
    drowns the small variances behind freshly drawn convolutions and ruins the first evaluations.
    Batch n of a training therefore uses ``max(0.01, 1 / n)``: nothing of the initial values stays,
    and from batch 100 on it is the official code, which has no such warm-up.

    A network that has seen but a thousand small batches leans on each batch's own statistics and
    scores far less with the running ones. From ``freeze_from`` on the norms therefore use the
    running statistics in training too and leave them as they are, as Wu and Johnson's "Rethinking
    'Batch' in BatchNorm" proposes; weights and biases still learn. The official code never does.

    Args:
        freeze_from: share of the training's steps after which statistics stand still, once they
            have seen 100 batches; 1 is never.
    """

    def __init__(self, freeze_from: float = 1.0) -> None:
        self.freeze_from = freeze_from

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Set the momentum and the mode of this batch."""
        batches = trainer.current_epoch * int(trainer.num_training_batches) + batch_idx
        settled = batches >= 1 / BN_MOMENTUM
        late = trainer.global_step >= self.freeze_from * trainer.estimated_stepping_batches
        if settled and not late:
            return
        for layer in pl_module.modules():
            if isinstance(layer, nn.BatchNorm2d | nn.SyncBatchNorm):
                layer.momentum = max(BN_MOMENTUM, 1 / (batches + 1))
                layer.train(not settled)

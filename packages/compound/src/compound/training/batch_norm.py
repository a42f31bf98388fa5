"""Batch-norm statistics that are right from the first steps and hold still at the end."""

import math

import pytorch_lightning as pl
import torch

from compound.errors import UserError
from compound.training.freeze import Norm
from compound.training.schedule import epochs_in_all, progression_of

# After this many batches a fresh statistic is its own average, and the warm-up ends.
WARMUP_BATCHES = 100
# So many batches after a border of stages have a momentum so many times as large: 0.9 ** 50 of what
# was before is left at V1's momentum of 0.01.
BORDER_BATCHES, BORDER_FACTOR = 50, 10


class BatchNormSchedule(pl.Callback):
    """Warm fresh running statistics up, and let the last part of a short training use them.

    With a momentum of 0.01 the initial variance of 1 still weighs 5 % after 300 steps, which
    drowns the small variances behind freshly drawn convolutions and ruins the first evaluations.
    Batch n of a training from random weights therefore uses at least ``1 / n`` for n up to 100:
    nothing of the initial values stays. The official code has no such warm-up. Statistics that
    came with weights are left as they are.

    A network that has seen but a thousand small batches leans on each batch's own statistics and
    scores far less with the running ones. From ``freeze_from`` on the norms therefore use the
    running statistics in training too and leave them as they are, as Wu and Johnson's "Rethinking
    'Batch' in BatchNorm" proposes; weights and biases still learn. The official code never does.

    Where pictures grow in stages, statistics of the smaller ones would ruin the first evaluations
    of a stage in the same way. After a border they therefore move ten times as fast as usual for
    50 batches. The official code has stages of many thousand steps, and does not.

    Norms of frozen layers are left alone.

    Args:
        freeze_from: share of the training's steps after which statistics stand still, once fresh
            ones have seen 100 batches; 0 is from the start where they came with weights, 1 never.
            Where pictures grow in stages it is the share of the last one's, as statistics of
            smaller pictures would not do for what is scored.
    """

    def __init__(self, freeze_from: float = 1.0) -> None:
        if not 0 <= freeze_from <= 1:
            raise UserError(
                f"callbacks.batch_norm.freeze_from={freeze_from}: expected a share in [0, 1]"
            )
        self.freeze_from = freeze_from
        self._fresh: set[str] = set()
        self._norms: list[tuple[Norm, float, bool]] = []
        self._frozen_at = 0.0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Look whose statistics are fresh, before a resumed run gets those it had."""
        self._fresh = {name for name, norm in _norms(pl_module) if _is_fresh(norm)}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the norms that learn, their momenta, and whether they are fresh."""
        progression = progression_of(trainer)
        start = progression.last_start if progression and self.freeze_from else 0.0
        self._frozen_at = start + self.freeze_from * (epochs_in_all(trainer) - start)
        self._norms = [
            (norm, norm.momentum or 0.0, name in self._fresh)
            for name, norm in _norms(pl_module)
            if norm.weight.requires_grad
        ]

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Set the momentum and the mode of this batch."""
        batches = trainer.fit_loop.epoch_loop.total_batch_idx
        time = trainer.current_epoch + batch_idx / int(trainer.num_training_batches)
        late = time >= self._frozen_at
        factor = BORDER_FACTOR if _batches_in_stage(trainer, time) < BORDER_BATCHES else 1
        for norm, momentum, fresh in self._norms:
            warming = fresh and batches < WARMUP_BATCHES
            least = 1 / (batches + 1) if warming else 0.0
            norm.momentum = max(min(1.0, factor * momentum), least)
            norm.train(warming or not late)


def _batches_in_stage(trainer: pl.Trainer, time: float) -> float:
    """Return how many batches of its stage lie behind a batch; endless in the first."""
    progression = progression_of(trainer)
    batches = int(trainer.num_training_batches)
    # As the sampler has it: a batch is of the stage in which it is done.
    if progression is None or not (stage := progression.at(time + 1 / batches)):
        return math.inf
    return (time - progression.ends[stage - 1]) * batches


def _norms(module: pl.LightningModule) -> list[tuple[str, Norm]]:
    return [(name, layer) for name, layer in module.named_modules() if isinstance(layer, Norm)]


def _is_fresh(norm: Norm) -> bool:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return bool(torch.all(norm.running_mean == 0) and torch.all(norm.running_var == 1))

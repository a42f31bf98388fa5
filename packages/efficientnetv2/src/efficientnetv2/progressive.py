"""Progressive learning as a callback: ``uv run tools/train.py task=det model=d0 progressive=on``.

Small pictures, weak regularisation and, if wanted, large batches first (arXiv:2104.00298, Sec. 4).
Weights, optimizer, schedule of the learning rate and average go on from stage to stage.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Literal, Protocol, runtime_checkable

import pytorch_lightning as pl

from compound.data.loader import EpochData
from compound.errors import UserError, closest
from compound.stages import Progression, Stage
from efficientnetv2.schedule import (
    INTERPOLATIONS,
    NUM_STAGES,
    constant_memory,
    stage_ends,
)
from efficientnetv2.schedule import first_size as usual_first_size

log = logging.getLogger(__name__)


@runtime_checkable
class Regularized(Protocol):
    """A Lightning module whose regularisation follows the stages."""

    def regularization(self) -> dict[str, float]:
        """Return what the last stage ends with, by the names of a `Stage`."""
        ...

    def regularize(self, stage: Stage) -> None:
        """Take over what a stage says."""
        ...


class ProgressiveLearning(pl.Callback):
    """Let pictures and regularisation grow in stages up to what the run is configured with.

    The data module takes the size, RandAugment's magnitude and a detector's mixup from the
    stages; the module, if it is `Regularized`, mixup, CutMix and dropout.

    Args:
        interpolation: ``official`` or ``paper``, see `schedule`.
        stages: how many there are.
        first_size: longer side that the stages start from, in pixels; None is the official 128,
            or two thirds of the last size where that is less.
        first_magnitude: of RandAugment; where the run ends with less, it does not change.
        first_dropout: the same of dropout, which only the paper's interpolation changes.
        borders: ``steps`` lets stages end at the exact step, ``epochs`` at whole epochs.
        batch: ``constant``, or ``constant_memory``: batches grow as pictures shrink, and with
            them the learning rate.

    Raises:
        UserError: a number or a word is none of these.
    """

    def __init__(
        self,
        *,
        interpolation: str = "official",
        stages: int = NUM_STAGES,
        first_size: int | None = None,
        first_magnitude: float = 5.0,
        first_dropout: float = 0.1,
        borders: Literal["steps", "epochs"] = "steps",
        batch: Literal["constant", "constant_memory"] = "constant",
    ) -> None:
        self.interpolate = INTERPOLATIONS[
            closest(interpolation, INTERPOLATIONS, what=_key("interpolation"))
        ]
        closest(borders, ("steps", "epochs"), what=_key("borders"))
        closest(batch, ("constant", "constant_memory"), what=_key("batch"))
        for name, value in (("stages", stages), ("first_size", first_size)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise UserError(f"{_key(name)}={value}: expected a whole number of 1 or more")
        if first_magnitude < 0 or not 0 <= first_dropout < 1:
            raise UserError(
                f"{_key('first_magnitude')}={first_magnitude}, first_dropout={first_dropout}: "
                "expected 0 or more, and a probability below 1"
            )
        self.num_stages = stages
        self.first_size = first_size
        self.first_magnitude = first_magnitude
        self.first_dropout = first_dropout
        self.grows = batch == "constant_memory"
        # An epoch's batches are counted before it begins, so that they must be equally large.
        self.whole_epochs = borders == "epochs" or self.grows
        self._stage: int | None = None

    def prepare(
        self,
        module: pl.LightningModule,
        data: EpochData,
        *,
        max_epochs: int | None,
        max_steps: int = -1,
    ) -> None:
        """Tell the data which stages there will be; tools do so before a run writes anything.

        Raises:
            UserError: the stages do not fit the training, the network or the data.
        """
        if max_epochs is None or max_epochs < 1 or max_steps != -1:
            raise UserError(
                "progressive: stages are parts of trainer.max_epochs, so set that and no "
                "trainer.max_steps, which might end before the final size"
            )
        last = data.last_stage
        if isinstance(module, Regularized):
            last = replace(last, **module.regularization())
        first = self._first(last, getattr(module, "min_image_size", 1))
        stages = self.interpolate(first, last, self.num_stages)
        if self.grows:
            stages = constant_memory(stages)
        largest, pictures = stages[0].batch_size, data.num_pictures("train")
        if self.grows and largest > pictures:
            raise UserError(
                f"{_key('batch')}=constant_memory: the first stage's batches would hold {largest} "
                f"of {pictures} training pictures; lower data.batch_size or raise first_size"
            )
        ends = stage_ends(self.num_stages, max_epochs, whole=self.whole_epochs)
        data.progression = Progression(stages, ends)

    def _first(self, last: Stage, smallest: int) -> Stage:
        if last.image_size < smallest:
            raise UserError(
                f"progressive: pictures of {last.image_size} pixels are too small for this network,"
                f" which takes {smallest} or more; raise model.image_size (data.train_size)"
            )
        size = self.first_size
        if size is None:
            size = max(smallest, usual_first_size(last.image_size))
        if not smallest <= size <= last.image_size:
            raise UserError(
                f"{_key('first_size')}={size}: expected {smallest} pixels, the least that this "
                f"network takes, to {last.image_size}, which the stages are to reach"
            )
        return replace(
            last,
            image_size=size,
            magnitude=min(self.first_magnitude, last.magnitude),
            mixup=0.0,
            cutmix=0.0,
            dropout=min(self.first_dropout, last.dropout),
        )

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Plan the stages."""
        if stage == "fit":
            data = _data_of(trainer)
            limits = {"max_epochs": trainer.max_epochs, "max_steps": trainer.max_steps}
            self.prepare(pl_module, data, **limits)
            assert data.progression is not None
            first, last = data.progression.stages[0], data.progression.stages[-1]
            same = self.num_stages > 1 and first.image_size == last.image_size
            if same and self.first_size is None and trainer.is_global_zero:
                log.warning(
                    "pictures do not grow: the network takes %d pixels or more, which the last "
                    "stage has; raise model.image_size (data.train_size)",
                    first.image_size,
                )

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the loaders, also if those of this epoch had to be made anew."""
        _reload(trainer, every_n_epochs=0)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """At a border, tell the module and the log."""
        data = _data_of(trainer)
        assert data.progression is not None
        assert trainer.train_dataloader is not None
        now = trainer.train_dataloader.sampler.stage_of(batch_idx, trainer.current_epoch)
        if now == self._stage:
            return
        self._stage = now
        stage = data.progression.stages[now]
        if isinstance(pl_module, Regularized):
            pl_module.regularize(stage)
        values = _changing(data.progression.stages, now)
        logged = {f"progressive/{name}": value for name, value in values.items()}
        for logger in trainer.loggers:
            logger.log_metrics({"progressive/stage": now + 1} | logged, step=trainer.global_step)
        if trainer.is_global_zero:
            told = ", ".join(f"{name.replace('_', ' ')} {v:.4g}" for name, v in values.items())
            log.info("stage %d of %d: %s", now + 1, self.num_stages, told)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ask for new loaders if the next epoch's batches are of another size."""
        data, epoch = _data_of(trainer), trainer.current_epoch
        changes = data.batch_size_in(epoch) != data.batch_size_in(epoch + 1)
        _reload(trainer, every_n_epochs=int(changes))


def _data_of(trainer: pl.Trainer) -> EpochData:
    return trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]


def _reload(trainer: pl.Trainer, *, every_n_epochs: int) -> None:
    trainer.reload_dataloaders_every_n_epochs = every_n_epochs  # pyright: ignore[reportAttributeAccessIssue]


def _changing(stages: Sequence[Stage], now: int) -> dict[str, float]:
    """Return a stage's size, and whatever else changes on the way."""
    return {
        name: value
        for name, value in asdict(stages[now]).items()
        if name == "image_size" or len({getattr(stage, name) for stage in stages}) > 1
    }


def _key(name: str) -> str:
    return f"callbacks.progressive.{name}"

"""What a classifier shows on Weights & Biases and TensorBoard besides its scalars."""

import heapq
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pytorch_lightning as pl
import wandb
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor
from wandb.plot.custom_chart import CustomChart

from backbone.classification.analysis import ClassAnalysis, analyse_classes
from backbone.classification.data.datamodule import data_of
from backbone.classification.data.dataset import Batch
from backbone.classification.module import EfficientNetModule
from compound.tracking.trackers import attempt, is_tracked
from compound.tracking.wandb_run import STEP, table_of
from compound.visualize import as_rgb, draw_guesses

# A table of more rows than this is nobody's to read.
MAX_CELLS = 10_000


class _Shown(NamedTuple):
    """A picture ``(H, W, C)`` uint8, its label, what it was taken for and how surely."""

    picture: np.ndarray
    label: int
    guess: int
    probability: float


class ClassifierMedia(pl.Callback):
    """Log the worst pictures while training; confusions and a table of classes at the end.

    Pictures go to W&B and TensorBoard, the rest to W&B. Without either it does nothing.

    Args:
        every_n_epochs: how often pictures are logged.
        num_pictures: how many, those with the largest loss among the first process's.
    """

    def __init__(self, *, every_n_epochs: int, num_pictures: int) -> None:
        self.every_n_epochs = every_n_epochs
        self.num_pictures = num_pictures
        # The position decides between equal losses, as pictures cannot be compared.
        self._worst: list[tuple[float, int, _Shown]] = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Mapping[str, Tensor],
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the pictures with the largest losses so far."""
        last = trainer.current_epoch + 1 == trainer.max_epochs
        due = last or (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if due and is_tracked(trainer, WandbLogger, TensorBoardLogger):
            self._keep(outputs, batch)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the pictures that were kept, the worst first."""
        if not self._worst:
            return
        worst, self._worst = sorted(self._worst, reverse=True), []
        names, step = data_of(trainer).class_names, trainer.global_step

        def to_wandb(logger: WandbLogger) -> None:
            pictures = [
                wandb.Image(shown.picture, caption=_caption(shown, loss, names))
                for loss, _, shown in worst
            ]
            logger.experiment.log({"val/worst": pictures, STEP: step})

        def to_tensorboard(logger: TensorBoardLogger) -> None:
            drawn = [
                draw_guesses(as_rgb(s.picture), [s.probability], [s.guess], names)
                for _, _, s in worst
            ]
            logger.experiment.add_images("val/worst", np.stack(drawn), step, dataformats="NHWC")

        attempt(trainer, WandbLogger, to_wandb)
        attempt(trainer, TensorBoardLogger, to_tensorboard)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the best validation's confusions and classes."""
        assert isinstance(pl_module, EfficientNetModule)
        ranking = pl_module.results.get("val")
        if ranking is None or not is_tracked(trainer, WandbLogger):
            return
        names, step = data_of(trainer).class_names, trainer.global_step
        found = analyse_classes(ranking.truth, ranking.labels, ranking.scores, names)

        def to_wandb(logger: WandbLogger) -> None:
            charts = {"confusion_matrix": _confusion(found), "per_class": table_of(found.classes)}
            content = {f"val/{name}": chart for name, chart in charts.items()}
            logger.experiment.log({**content, STEP: step})

        attempt(trainer, WandbLogger, to_wandb)

    def _keep(self, outputs: Mapping[str, Tensor], batch: Batch) -> None:
        losses = outputs["losses"].tolist()
        for row in heapq.nlargest(self.num_pictures, range(len(losses)), losses.__getitem__):
            if len(self._worst) == self.num_pictures and losses[row] <= self._worst[0][0]:
                break
            probability, guess = outputs["probabilities"][row].max(0)
            picture = batch.images[row].permute(1, 2, 0).cpu().numpy()
            shown = _Shown(picture, int(batch.labels[row]), int(guess), float(probability))
            heapq.heappush(self._worst, (losses[row], int(batch.indices[row]), shown))
            if len(self._worst) > self.num_pictures:
                heapq.heappop(self._worst)


def _caption(shown: _Shown, loss: float, names: Sequence[str]) -> str:
    return (
        f"{names[shown.label]}; taken for {names[shown.guess]} ({shown.probability:.2f}), "
        f"loss {loss:.2f}"
    )


def _confusion(found: ClassAnalysis) -> CustomChart:
    """Return the cells that are not empty, the fullest first, as W&B's confusion-matrix plot."""
    names = found.class_names
    fields = {name: name for name in ("Actual", "Predicted", "nPredictions")}
    table = wandb.Table([*fields])
    for actual, predicted, count in found.cells[:MAX_CELLS].tolist():
        table.add_data(names[actual], names[predicted], count)
    return wandb.plot_table("wandb/confusion_matrix/v1", table, fields)

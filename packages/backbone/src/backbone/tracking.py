"""What a classifier shows on Weights & Biases besides its scalars."""

import heapq
from collections.abc import Mapping
from pathlib import Path

import pytorch_lightning as pl
import wandb
from pytorch_lightning.loggers import WandbLogger
from torch import Tensor

from backbone.data.dataset import Batch
from backbone.data.module import data_of
from backbone.module import EfficientNetModule
from backbone.train.trackers import attempt, log_weights

# A table of more rows than this is nobody's to read.
MAX_CELLS = 10_000


class ClassifierMedia(pl.Callback):
    """Log the worst pictures while training, the confusion matrix and the best weights at the end.

    Without a W&B logger it does nothing.

    Args:
        every_n_epochs: how often pictures are logged.
        num_pictures: how many, those with the largest loss among the first process's.
    """

    def __init__(self, *, every_n_epochs: int, num_pictures: int) -> None:
        self.every_n_epochs = every_n_epochs
        self.num_pictures = num_pictures
        self._worst: list[tuple[float, int, wandb.Image]] = []

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
        if due and trainer.is_global_zero:
            names = data_of(trainer).class_names
            attempt(trainer, lambda _: self._keep(outputs, batch, names))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the pictures that were kept, the worst first."""
        if self._worst:
            pictures = [picture for _, _, picture in sorted(self._worst, reverse=True)]
            payload = {"val/worst": pictures, "trainer/global_step": trainer.global_step}
            attempt(trainer, lambda logger: logger.experiment.log(payload))
        self._worst = []

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the last validation's confusion matrix and the best weights."""
        assert isinstance(pl_module, EfficientNetModule)
        if pl_module.confusion.update_called:
            counts = pl_module.confusion.compute().cpu()  # every process takes part
            names = data_of(trainer).class_names
            attempt(trainer, lambda logger: _log_confusion(logger, counts, names))
        best = Path(getattr(trainer.checkpoint_callback, "best_model_path", ""))
        if trainer.is_global_zero and best.is_file():
            attempt(trainer, lambda logger: log_weights(logger, best))

    def _keep(self, outputs: Mapping[str, Tensor], batch: Batch, names: tuple[str, ...]) -> None:
        losses = outputs["losses"].tolist()
        for row in heapq.nlargest(self.num_pictures, range(len(losses)), losses.__getitem__):
            if len(self._worst) == self.num_pictures and losses[row] <= self._worst[0][0]:
                break
            probability, guess = outputs["probabilities"][row].max(0)
            caption = (
                f"{names[int(batch.labels[row])]}; taken for {names[int(guess)]} "
                f"({float(probability):.2f}), loss {losses[row]:.2f}"
            )
            picture = wandb.Image(batch.images[row].permute(1, 2, 0).cpu().numpy(), caption=caption)
            # The position decides between equal losses, as pictures cannot be compared.
            heapq.heappush(self._worst, (losses[row], int(batch.indices[row]), picture))
            if len(self._worst) > self.num_pictures:
                heapq.heappop(self._worst)


def _log_confusion(logger: WandbLogger, counts: Tensor, names: tuple[str, ...]) -> None:
    """Log the cells that are not empty, the fullest first, as W&B's confusion-matrix plot."""
    actual, predicted = counts.nonzero(as_tuple=True)
    order = counts[actual, predicted].argsort(descending=True, stable=True)[:MAX_CELLS]
    rows = [
        [names[int(a)], names[int(p)], int(counts[a, p])]
        for a, p in zip(actual[order], predicted[order], strict=True)
    ]
    table = wandb.Table(columns=["Actual", "Predicted", "nPredictions"], data=rows)
    fields = {name: name for name in ("Actual", "Predicted", "nPredictions")}
    plot = wandb.plot_table("wandb/confusion_matrix/v1", table, fields)
    logger.experiment.log({"val/confusion_matrix": plot})

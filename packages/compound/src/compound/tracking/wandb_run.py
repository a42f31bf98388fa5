"""What makes a W&B run one that can be compared, traced and gone on with, whatever the task."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import wandb
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import WandbLogger

from compound.data.loader import EpochData
from compound.report.page import Table
from compound.tracking.artifacts import log_weights, use_data
from compound.tracking.trackers import WANDB_RUN, attempt

# Lightning's x axis.
STEP = "trainer/global_step"
# What the summary holds of scalars besides the last value; of a module's `monitors` the largest.
SUMMARIES = {
    "train/loss": "min",
    "train/loss_class": "min",
    "train/loss_box": "min",
    "val/loss": "min",
    "speed/images_per_second": "mean",
    "memory/peak_gib": "max",
}


class WandbRun(pl.Callback):
    """Tell W&B what is best, which data came in and which weights came out.

    A checkpoint keeps the run's id, so that a training that goes on from it goes on in the same
    run; see `wandb_logger`. Without a W&B logger it does nothing.

    Args:
        dataset: the data set's name.
        root: its folder, if it has one.
    """

    def __init__(self, *, dataset: str, root: str | None) -> None:
        self.dataset = dataset
        self.root = root
        self.run_id: str | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Define the summary, and note the data set."""
        if trainer.is_global_zero:
            data = getattr(trainer, "datamodule", None)  # a plain loader has none
            monitors = tuple(getattr(pl_module, "monitors", ()))
            attempt(trainer, WandbLogger, lambda logger: self._begin(logger, monitors, data))

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the run's id."""
        if self.run_id is not None:
            checkpoint[WANDB_RUN] = self.run_id

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the best and the last weights."""
        if not trainer.is_global_zero:
            return
        found: dict[str, Path] = {}
        scores: dict[str, Any] = {}
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.filename in ("best", "last"):
                path = Path(callback.best_model_path)
                if path.is_file():
                    found[callback.filename] = path
                if callback.monitor and callback.best_model_score is not None:
                    scores[f"best {callback.monitor}"] = float(callback.best_model_score)
        if found:
            attempt(trainer, WandbLogger, lambda logger: log_weights(logger, found, scores))

    def _begin(
        self, logger: WandbLogger, monitors: tuple[str, ...], data: EpochData | None
    ) -> None:
        run = logger.experiment
        if run.disabled:
            return
        self.run_id = run.id
        for name, best in {**dict.fromkeys(monitors, "max"), **SUMMARIES}.items():
            run.define_metric(name, step_metric=STEP, summary=f"{best},last")
        if data is not None and data.splits:
            use_data(logger, data, name=self.dataset, root=self.root)


def table_of(rows: Sequence[Any]) -> wandb.Table:
    """Return a table of dataclass objects, a column a field; what is nan is left empty."""
    table = wandb.Table([field.name for field in dataclasses.fields(rows[0])])
    for row in rows:
        table.add_data(*(None if v != v else v for v in dataclasses.astuple(row)))
    return table


def log_comparison(logger: WandbLogger, tables: Sequence[Table], plots: Sequence[Path]) -> None:
    """Log tables and plots, and end the run."""
    payload: dict[str, object] = {
        f"compare/{table.title.partition(',')[0]}": wandb.Table(
            columns=list(table.columns), data=[list(row) for row in table.rows]
        )
        for table in tables
    }
    payload |= {f"compare/{plot.stem}": wandb.Image(str(plot)) for plot in plots}
    logger.experiment.log(payload)
    logger.experiment.finish()

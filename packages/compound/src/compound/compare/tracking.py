"""What a comparison shows on Weights & Biases."""

from collections.abc import Sequence
from pathlib import Path

import wandb
from pytorch_lightning.loggers import WandbLogger

from compound.report.page import Table


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

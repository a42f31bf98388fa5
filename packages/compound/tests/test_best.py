from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

from compound.training.best import monitored

SCORES = {"mAP": 0.1, "AP50": 0.2, "APl": float("nan")}


def trainer_with(folder: Path, *callbacks: pl.Callback) -> pl.Trainer:
    return pl.Trainer(
        default_root_dir=folder, logger=False, callbacks=list(callbacks), accelerator="cpu",
        enable_progress_bar=False, enable_checkpointing=bool(callbacks),
    )  # fmt: skip


def test_the_best_epoch_is_that_of_the_checkpoint(tmp_path: Path) -> None:
    last = ModelCheckpoint(tmp_path, filename="last")
    for name, score in (("AP50", 0.2), ("mAP", 0.1), ("APl", -1.0)):
        best = ModelCheckpoint(tmp_path, filename="best", monitor=f"val/{name}", mode="max")
        assert monitored(trainer_with(tmp_path, last, best), SCORES, "mAP") == score
    # An evaluation chooses nothing.
    assert monitored(trainer_with(tmp_path), SCORES, "mAP") == 0.1

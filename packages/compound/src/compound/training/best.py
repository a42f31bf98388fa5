"""Which epoch is the best one, as ``best.ckpt`` sees it."""

import math
from collections.abc import Mapping

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint


def monitored(trainer: pl.Trainer, scores: Mapping[str, float], default: str) -> float:
    """Return the validation's score that ``best.ckpt`` is chosen by.

    Args:
        trainer: of the run; in an evaluation it has no such choice.
        scores: by their names without ``val/``.
        default: the score where there is no choice.

    Returns:
        The score; below all others if it is nan, as in a split without objects.
    """
    names = [
        str(callback.monitor).removeprefix("val/")
        for callback in trainer.checkpoint_callbacks
        if isinstance(callback, ModelCheckpoint) and callback.monitor
    ]
    score = scores[next((name for name in names if name in scores), default)]
    return -1.0 if math.isnan(score) else score

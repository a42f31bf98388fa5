"""Experiment trackers that never stand in a training's way."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytorch_lightning as pl
import wandb
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.loggers.logger import Logger

from backbone.weights import read_file, save_weights

log = logging.getLogger(__name__)

T = TypeVar("T")


class FailSafe(Logger):
    """Pass everything on to a tracker until it fails; then say so once and go on without it.

    Args:
        inner: the tracker.
    """

    def __init__(self, inner: Logger) -> None:
        super().__init__()
        self.inner = inner
        self.failed = False

    @property
    def name(self) -> str | None:
        """Return the tracker's name."""
        return self.attempt(lambda: self.inner.name)

    @property
    def version(self) -> int | str | None:
        """Return the tracker's name of this run."""
        return self.attempt(lambda: self.inner.version)

    @property
    def save_dir(self) -> str | None:
        """Return the folder that the tracker writes to."""
        return self.inner.save_dir

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Pass scalars on."""
        self.attempt(lambda: self.inner.log_metrics(metrics, step))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Pass the configuration on."""
        self.attempt(lambda: self.inner.log_hyperparams(params, *args, **kwargs))

    def save(self) -> None:
        """Let the tracker write what it holds back."""
        self.attempt(self.inner.save)

    def finalize(self, status: str) -> None:
        """Let the tracker close."""
        self.attempt(lambda: self.inner.finalize(status))

    def attempt(self, action: Callable[[], T]) -> T | None:
        """Run ``action`` unless the tracker has failed before; None if it fails now."""
        if self.failed:
            return None
        try:
            return action()
        except Exception as error:  # whatever a tracker throws, the training is worth more
            self.failed = True
            log.warning(
                "%s failed and is off for the rest of this run: %s",
                type(self.inner).__name__,
                error,
            )
            return None


def attempt(trainer: pl.Trainer, action: Callable[[WandbLogger], object]) -> None:
    """Do something with the run's W&B logger, if it has one; a failure is not the training's."""
    for tracker in trainer.loggers:
        if isinstance(tracker, FailSafe) and isinstance(logger := tracker.inner, WandbLogger):
            tracker.attempt(lambda logger=logger: action(logger))


def log_weights(logger: WandbLogger, checkpoint: Path) -> None:
    """Write a checkpoint's network beside it as ``.safetensors`` and log that as an artifact."""
    content = read_file(checkpoint)
    path = checkpoint.with_suffix(".safetensors")
    save_weights(path, content.tensors, content.metadata)
    artifact = wandb.Artifact(str(content.name), type="model")
    artifact.add_file(str(path))
    logger.experiment.log_artifact(artifact, aliases=["best"])


def wandb_logger(*, save_dir: str, project: str, name: str, mode: str | None = None) -> WandbLogger:
    """Return a Weights & Biases tracker that keeps all of its files in the run's folder.

    Args:
        save_dir: the run's folder.
        project: name of the W&B project.
        name: name of the run.
        mode: ``online`` or ``offline``; None takes the environment's ``WANDB_MODE``, else goes
            online where the user is logged in and W&B answers.
    """
    for variable, folder in (("WANDB_DATA_DIR", "data"), ("WANDB_CACHE_DIR", "cache")):
        os.environ.setdefault(variable, str(Path(save_dir, "wandb", folder)))
    os.environ.setdefault("WANDB_SILENT", "true")
    mode = mode or os.environ.get("WANDB_MODE") or ("online" if can_log_in() else "offline")
    # Not with `offline=True`: that goes through the environment, which W&B reads only once.
    return WandbLogger(save_dir=save_dir, project=project, name=name, mode=mode)


def can_log_in() -> bool:
    """Return whether W&B has a key of the user's and its server accepts it; never asks for one."""
    try:
        return wandb.login(prompt=False)
    except wandb.Error as error:  # a wrong key, no network, a server that is down
        log.warning("W&B cannot be used online, so this run is tracked offline: %s", error)
        return False

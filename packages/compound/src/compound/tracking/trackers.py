"""Experiment trackers that never stand in a training's way."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
import wandb
from pytorch_lightning.loggers import MLFlowLogger, WandbLogger
from pytorch_lightning.loggers.logger import DummyLogger, Logger
from pytorch_lightning.utilities import rank_zero_only

from compound.errors import UserError

log = logging.getLogger(__name__)

T = TypeVar("T")
L = TypeVar("L", bound=Logger)

# Where a checkpoint keeps the W&B run that it was saved in.
WANDB_RUN = "wandb_run"
_SQLITE = "sqlite:///"
MLFLOW_FILE = f"{_SQLITE}runs/mlflow.db"


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


def attempt(trainer: pl.Trainer, kind: type[L], action: Callable[[L], object]) -> None:
    """Do something besides scalars with the run's trackers of a kind, if there are any.

    A failure is not the training's, nor does it end the scalars.
    """
    for tracker in _live(trainer):
        if isinstance(inner := tracker.inner, kind):
            try:
                action(inner)
            except Exception as error:  # whatever a tracker throws
                log.warning("%s could not be given everything: %s", kind.__name__, error)


def is_tracked(trainer: pl.Trainer, *kinds: type[Logger]) -> bool:
    """Return whether this process has a tracker of one of these kinds that has not failed."""
    return trainer.is_global_zero and any(isinstance(t.inner, kinds) for t in _live(trainer))


def _live(trainer: pl.Trainer) -> list[FailSafe]:
    return [t for t in trainer.loggers if isinstance(t, FailSafe) and not t.failed]


def wandb_logger(
    *,
    save_dir: str,
    project: str,
    name: str,
    mode: str | None = None,
    resume_from: str | None = None,
) -> WandbLogger:
    """Return a Weights & Biases tracker that keeps all of its files in the run's folder.

    A sweep's agent says which run it is by ``WANDB_RUN_ID``, and W&B names the runs of a sweep.

    Args:
        save_dir: the run's folder.
        project: name of the W&B project.
        name: name of the run.
        mode: ``online`` or ``offline``; None takes the environment's ``WANDB_MODE``, else goes
            online where the user is logged in and W&B answers.
        resume_from: a checkpoint whose W&B run goes on; None begins one.
    """
    for variable, folder in (("WANDB_DATA_DIR", "data"), ("WANDB_CACHE_DIR", "cache")):
        os.environ.setdefault(variable, str(Path(save_dir, "wandb", folder)))
    os.environ.setdefault("WANDB_SILENT", "true")
    mode = mode or os.environ.get("WANDB_MODE") or ("online" if can_log_in() else "offline")
    if wandb.run is not None:  # of the job before, where one process has several
        wandb.run.finish()
    run_id = None if "WANDB_RUN_ID" in os.environ else stored_run(resume_from)
    shown = None if "WANDB_SWEEP_ID" in os.environ else name
    # Not with `offline=True`: that goes through the environment, which W&B reads only once.
    return WandbLogger(save_dir=save_dir, project=project, name=shown, mode=mode, id=run_id)


def can_log_in() -> bool:
    """Return whether W&B has a key of the user's and its server accepts it; never asks for one."""
    try:
        return wandb.login(prompt=False)
    except wandb.Error as error:  # a wrong key, no network, a server that is down
        log.warning("W&B cannot be used online, so this run is tracked offline: %s", error)
        return False


def stored_run(checkpoint: str | Path | None) -> str | None:
    """Return the id of the W&B run that a checkpoint was saved in, None if there was none."""
    if checkpoint is None:
        return None
    content = torch.load(checkpoint, map_location="meta", weights_only=True, mmap=True)
    return content.get(WANDB_RUN)


def mlflow_logger(*, tracking_uri: str | None, experiment: str, name: str) -> Logger:
    """Return an MLflow tracker; in all but the first process one that does nothing.

    Args:
        tracking_uri: of a server, or of a SQLite file, whose folder is made if need be; None takes
            the environment's ``MLFLOW_TRACKING_URI``, which may hold a password and so stays out
            of the configuration, else `MLFLOW_FILE`.
        experiment: name of the MLflow experiment.
        name: name of the run.

    Raises:
        UserError: MLflow is not installed.
    """
    if getattr(rank_zero_only, "rank", 0) != 0:
        return DummyLogger()
    tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or MLFLOW_FILE
    if tracking_uri.startswith(_SQLITE):
        Path(tracking_uri.removeprefix(_SQLITE)).parent.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # A new file's tables are told one by one.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        return MLFlowLogger(experiment, run_name=name, tracking_uri=tracking_uri)
    except ModuleNotFoundError as error:
        raise UserError(
            "logger=mlflow: MLflow is not installed; run `uv sync --extra mlflow`"
        ) from error

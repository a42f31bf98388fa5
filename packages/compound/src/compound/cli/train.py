"""Train: ``uv run tools/train.py task=det model=d0``."""

import logging
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities.exceptions import SIGTERMException

from compound.cli.doctor import log_fast_checks
from compound.cli.evaluate import report
from compound.cli.networks import chosen_task
from compound.cli.runs import pictures_of
from compound.cli.tuning import begin, find_batch, find_rate, is_first
from compound.errors import UserError, closest
from compound.profiling.memory import keep_memory
from compound.tracking.trackers import FailSafe
from compound.training.resume import check_resumable

log = logging.getLogger(__name__)


def train(config: DictConfig) -> float | None:
    """Build what the configuration names, fit it, and score a test split where there is one.

    Returns:
        The best score of the validation, which a sweep looks at; None if there was none.
    """
    if is_first() and (folder := Path(config.paths.output_dir)).joinpath("checkpoints").exists():
        raise UserError(f"{folder} holds a run already; give hydra.run.dir another folder")
    check_trainer(config.trainer)
    every, epochs = config.trainer.check_val_every_n_epoch, config.trainer.max_epochs
    if every and epochs and every > epochs:
        if is_first():
            log.info("scored once, at its end: trainer.check_val_every_n_epoch=%d", epochs)
        config.trainer.check_val_every_n_epoch = epochs
    batch_is_open = begin(config)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    data, module, callbacks = _built(config)
    keep_memory()
    with _signals_told():
        if batch_is_open:
            find_batch(config, module, data)
            _prepare(callbacks, config, module, data)
        if config.lr_find:
            find_rate(config, module, data)
    trainer = _started(config, callbacks)
    keep_memory()  # once more: what a search has left is of other sizes
    with _signals_told(trainer):
        trainer.fit(module, datamodule=data, ckpt_path=config.ckpt_path)
    score = _scored(config, trainer, module, data)
    title = f"{config.model.name} on {Path(pictures_of(config)).name}"
    report(config, trainer, module, data, title=title)
    if score is None and _is_of_several():
        raise UserError("this run has no score, so a sweep cannot count it; see the line above")
    return score


def _built(config: DictConfig) -> tuple[Any, Any, list[Any]]:
    """Return the data, the module and the callbacks, having looked at all of them."""
    data = instantiate(config.data)
    if config.overfit is not None:
        data.overfit(config.overfit)
    names, network = data.class_names, _network_of(config)
    module = instantiate(config.task, class_names=names, batch_size=data.batch_size, **network)
    closest(config.monitor, module.monitors, what="monitor")
    callbacks = [instantiate(callback) for callback in config.callbacks.values() if callback]
    _prepare(callbacks, config, module, data)
    if config.ckpt_path is not None:
        epochs = config.trainer.max_epochs or -1
        check_resumable(config.ckpt_path, module, max_epochs=epochs, data=data)
    if config.trainer.sync_batchnorm and not torch.cuda.is_available():
        raise UserError("trainer.sync_batchnorm=true needs GPUs")
    if is_first():
        data.check(("val", "test"))
        if config.overfit is None:
            log_fast_checks(chosen_task(config), data, module)
        else:
            log.info("%d training pictures, not augmented, and scored on the same", config.overfit)
    if _is_of_several():
        _check_devices(instantiate(config.trainer, logger=False, profiler=None))
    return data, module, callbacks


def _started(config: DictConfig, callbacks: list[Any]) -> Trainer:
    """Return the trainer; its folder and its trackers know the whole configuration then.

    Nothing is written before all of the configuration has proved sound.
    """
    loggers = [
        logger if isinstance(logger, CSVLogger) else FailSafe(logger)
        for logger in map(instantiate, config.logger.values())
    ]
    trainer = instantiate(config.trainer, logger=loggers, callbacks=callbacks)
    plain = OmegaConf.to_container(config, resolve=True)
    if is_first():
        path = Path(config.paths.output_dir, "config.yaml")
        OmegaConf.save(OmegaConf.create(plain), path)
    for logger in loggers:
        if isinstance(logger, FailSafe):
            logger.log_hyperparams(plain)
    return trainer


def _scored(config: DictConfig, trainer: Trainer, module: Any, data: Any) -> float | None:
    """Return the best score, if there is one; score a test split with the weights that have it."""
    checkpoint: Any = trainer.checkpoint_callback
    if checkpoint.best_model_score is None:
        log.warning(
            "never scored, as trainer.limit_val_batches=%s, max_steps=%s and max_time=%s leave no "
            "validation; last.ckpt holds the weights",
            *(config.trainer.get(key) for key in ("limit_val_batches", "max_steps", "max_time")),
        )
        return None
    score, best = float(checkpoint.best_model_score), checkpoint.best_model_path
    if trainer.is_global_zero:
        log.info("best %s %.4f: %s", config.monitor, score, best)
    if "test" in data.splits:
        with _signals_told(trainer):
            trainer.test(module, datamodule=data, ckpt_path=best)
    return score


def _is_of_several() -> bool:
    return HydraConfig.get().mode == RunMode.MULTIRUN


def _network_of(config: DictConfig) -> dict[str, dict[str, str | None]]:
    """Return what the network starts from, where that is not what the configuration says.

    A resumed run has all in its checkpoint: what its weights began with is not needed again.
    """
    keys = [key for key, value in config.task.model.items() if key.endswith("weights") and value]
    if config.ckpt_path is None or not keys:
        return {}
    return {"model": {**dict.fromkeys(keys), "weights": config.ckpt_path}}


def _prepare(callbacks: Iterable[Any], config: DictConfig, module: Any, data: Any) -> None:
    """Let progressive learning plan its stages, or refuse the run."""
    epochs, steps = config.trainer.max_epochs or -1, config.trainer.get("max_steps", -1)
    for callback in callbacks:
        if hasattr(callback, "prepare"):
            callback.prepare(module, data, max_epochs=epochs, max_steps=steps)


def _check_devices(trainer: Trainer) -> None:
    """Refuse several processes a run where several runs are asked for.

    Lightning starts the others with the same command line, and each would begin all runs again.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)
    external = environment is not None and environment.creates_processes_externally
    if trainer.world_size > 1 and not external:
        raise UserError(
            f"several runs at {trainer.world_size} devices each: give trainer.devices=1, or take a "
            "launcher that starts the processes, as hydra/launcher=submitit_slurm does"
        )


@contextmanager
def _signals_told(trainer: Trainer | None = None) -> Iterator[None]:
    """After a signal leave with 128 and its number, and say how to go on.

    Without a trainer nothing has begun yet.

    Lightning would leave with 1 after Ctrl-C, and as if all were done after SIGTERM. Only the first
    process tells: Lightning kills it as soon as another one ends with an error.
    """
    try:
        yield
    except SystemExit as stopped:
        if trainer is not None and not trainer.is_global_zero:
            raise
        saved = (
            callback.best_model_path
            for callback in (trainer.checkpoint_callbacks if trainer else ())
            if isinstance(callback, ModelCheckpoint) and callback.filename == "last"
        )
        last = next(saved, "")  # callbacks.last=null saves none
        if trainer is not None and trainer.testing:
            log.error("stopped in the test; tools/evaluate.py scores a test split too")
        elif last:
            log.error("stopped; the same command goes on with ckpt_path=%s", last)
        else:
            log.error("stopped, and no checkpoint was saved to go on with")
        terminated = isinstance(stopped, SIGTERMException)
        number = signal.SIGTERM if terminated else signal.SIGINT
        raise SystemExit(128 + number) from None


def check_trainer(trainer: DictConfig) -> None:
    """Refuse numbers that Lightning would only stumble over.

    Raises:
        UserError: one of them is no whole number, or too small.
    """
    for key in ("max_epochs", "accumulate_grad_batches", "check_val_every_n_epoch"):
        value = trainer[key]
        if value is not None and (not isinstance(value, int) or value < 1):
            raise UserError(f"trainer.{key}={value}: expected a whole number of 1 or more")

"""Train: ``uv run tools/train.py task=det model=d0``."""

import logging
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _doctors import tell_quickly
from _launch import in_multirun, run
from _tuning import begin, find_batch, find_rate
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

log = logging.getLogger(__name__)


def train(config: DictConfig) -> float | None:
    """Build what the configuration names, fit it, and score a test split where there is one.

    Returns:
        The best score of the validation, which a sweep looks at; None if there was none.
    """
    import pytorch_lightning as pl
    import torch
    from hydra.utils import instantiate
    from pytorch_lightning.loggers import CSVLogger
    from pytorch_lightning.utilities import rank_zero_only

    from backbone.errors import UserError, closest
    from backbone.report.run import try_report
    from backbone.timing.memory import keep_memory
    from backbone.train.resume import check_resumable
    from backbone.train.trackers import FailSafe

    output_dir = Path(config.paths.output_dir)
    if getattr(rank_zero_only, "rank", 0) == 0 and (output_dir / "checkpoints").exists():
        raise UserError(f"{output_dir} holds a run already; give hydra.run.dir another folder")
    check_trainer(config.trainer)
    batch_is_open = begin(config)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    data = instantiate(config.data)
    if config.overfit is not None:
        data.overfit(config.overfit)
    module = instantiate(
        config.task,
        class_names=data.class_names,
        batch_size=data.batch_size,
        **_network_of(config),
    )
    closest(config.monitor, module.monitors, what="monitor")
    callbacks = [instantiate(callback) for callback in config.callbacks.values() if callback]
    max_epochs = config.trainer.max_epochs or -1
    _prepare(callbacks, config, module, data)
    if config.ckpt_path is not None:
        check_resumable(config.ckpt_path, module, max_epochs=max_epochs, data=data)
    if config.trainer.sync_batchnorm and not torch.cuda.is_available():
        raise UserError("trainer.sync_batchnorm=true needs GPUs")
    main_process = getattr(rank_zero_only, "rank", 0) == 0
    if main_process:
        data.check(("val", "test"))
        if config.overfit is None:
            tell_quickly(data, module)
        else:
            log.info("%d training pictures, not augmented, and scored on the same", config.overfit)
    if in_multirun():
        _check_devices(instantiate(config.trainer, logger=False, profiler=None))
    keep_memory()
    with _signals_told():
        if batch_is_open:
            find_batch(config, module, data)
            _prepare(callbacks, config, module, data)
        if config.lr_find:
            find_rate(config, module, data)

    loggers = [
        logger if isinstance(logger, CSVLogger) else FailSafe(logger)
        for logger in map(instantiate, config.logger.values())
    ]
    trainer = instantiate(config.trainer, logger=loggers, callbacks=callbacks)
    # Nothing is written before all of the configuration has proved sound.
    plain = OmegaConf.to_container(config, resolve=True)
    if main_process:
        OmegaConf.save(OmegaConf.create(plain), output_dir / "config.yaml")
    for logger in loggers:
        if isinstance(logger, FailSafe):
            logger.log_hyperparams(plain)

    keep_memory()  # once more: what a search has left is of other sizes
    with _signals_told(trainer):
        trainer.fit(module, datamodule=data, ckpt_path=config.ckpt_path)
    checkpoint = trainer.checkpoint_callback
    score = checkpoint.best_model_score
    if score is None:
        log.warning(
            "never scored, as %d epochs with trainer.check_val_every_n_epoch=%s (and "
            "limit_val_batches=%s) leave no validation; last.ckpt holds the weights",
            max_epochs,
            config.trainer.check_val_every_n_epoch,
            config.trainer.limit_val_batches,
        )
    else:
        best = checkpoint.best_model_path
        if trainer.is_global_zero:
            log.info("best %s %.4f: %s", config.monitor, float(score), best)
        if "test" in data.splits:
            with _signals_told(trainer):
                trainer.test(module, datamodule=data, ckpt_path=best)
    if config.report and trainer.is_global_zero:
        title = f"{config.model.name} on {Path(str(config.data.root or 'drawn figures')).name}"
        told = OmegaConf.to_yaml(OmegaConf.create(plain))
        about = {"config": told, "device": trainer.strategy.root_device.type}
        path = try_report(output_dir, title=title, module=module, data=data, **about)
        if path is not None:
            log.info("report: %s", path)
    if score is None and in_multirun():
        raise UserError("this run has no score, so a sweep cannot count it; see the line above")
    return None if score is None else float(score)


def _network_of(config: DictConfig) -> dict[str, dict[str, str | None]]:
    """Return what the network starts from, where that is not what the configuration says.

    A run that goes on has all in its checkpoint: what its weights began with is not needed again.
    """
    keys = [key for key in ("weights", "backbone_weights") if config.task.model.get(key)]
    if config.ckpt_path is None or not keys:
        return {}
    return {"model": {**dict.fromkeys(keys), "weights": config.ckpt_path}}


def _prepare(callbacks: Iterable[Any], config: DictConfig, module: Any, data: Any) -> None:
    """Let progressive learning plan its stages, or refuse the run."""
    epochs, steps = config.trainer.max_epochs or -1, config.trainer.get("max_steps", -1)
    for callback in callbacks:
        if hasattr(callback, "prepare"):
            callback.prepare(module, data, max_epochs=epochs, max_steps=steps)


def _check_devices(trainer: "Trainer") -> None:
    """Refuse several processes a run where several runs are asked for.

    Lightning starts the others with the same command line, and each would begin all runs anew.
    """
    from backbone.errors import UserError

    environment = getattr(trainer.strategy, "cluster_environment", None)
    external = environment is not None and environment.creates_processes_externally
    if trainer.world_size > 1 and not external:
        raise UserError(
            f"several runs at {trainer.world_size} devices each: give trainer.devices=1, or take a "
            "launcher that starts the processes, as hydra/launcher=submitit_slurm does"
        )


@contextmanager
def _signals_told(trainer: "Trainer | None" = None) -> Iterator[None]:
    """After a signal leave with 128 and its number, and say how to go on.

    Without a trainer nothing has begun yet.

    Lightning would leave with 1 after Ctrl-C, and as if all were done after SIGTERM. Only the first
    process tells: Lightning kills it as soon as another one ends with an error.
    """
    from pytorch_lightning.callbacks import ModelCheckpoint
    from pytorch_lightning.utilities.exceptions import SIGTERMException

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
    from backbone.errors import UserError

    for key in ("max_epochs", "accumulate_grad_batches", "check_val_every_n_epoch"):
        value = trainer[key]
        if value is not None and (not isinstance(value, int) or value < 1):
            raise UserError(f"trainer.{key}={value}: expected a whole number of 1 or more")


if __name__ == "__main__":
    run("train", train)

"""Train: ``uv run tools/train.py task=det model=d0``."""

import logging
from pathlib import Path

from _launch import run
from omegaconf import DictConfig, OmegaConf

log = logging.getLogger(__name__)


def train(config: DictConfig) -> None:
    """Build what the configuration names, fit it, and score a test split where there is one."""
    import pytorch_lightning as pl
    import torch
    from hydra.utils import instantiate
    from pytorch_lightning.loggers import CSVLogger
    from pytorch_lightning.utilities import rank_zero_only

    from backbone.errors import UserError
    from backbone.train.resume import check_resumable
    from backbone.train.trackers import FailSafe

    output_dir = Path(config.paths.output_dir)
    if getattr(rank_zero_only, "rank", 0) == 0 and (output_dir / "checkpoints").exists():
        raise UserError(f"{output_dir} holds a run already; give hydra.run.dir another folder")
    pl.seed_everything(config.seed, workers=True, verbose=False)
    data = instantiate(config.data)
    module = instantiate(config.task, class_names=data.class_names, batch_size=data.batch_size)
    if config.ckpt_path is not None:
        max_epochs = config.trainer.max_epochs or -1
        check_resumable(config.ckpt_path, module, max_epochs=max_epochs)
    if config.trainer.sync_batchnorm and not torch.cuda.is_available():
        raise UserError("trainer.sync_batchnorm=true needs GPUs")
    main_process = getattr(rank_zero_only, "rank", 0) == 0
    if main_process:
        data.check(("val", "test"))

    plain = OmegaConf.to_container(config, resolve=True)
    if main_process:
        OmegaConf.save(OmegaConf.create(plain), output_dir / "config.yaml")
    loggers = []
    for logger in map(instantiate, config.logger.values()):
        if not isinstance(logger, CSVLogger):
            logger = FailSafe(logger)
            logger.log_hyperparams(plain)
        loggers.append(logger)
    callbacks = [instantiate(callback) for callback in config.callbacks.values() if callback]
    trainer = instantiate(config.trainer, logger=loggers, callbacks=callbacks)

    trainer.fit(module, datamodule=data, ckpt_path=config.ckpt_path)
    checkpoint = trainer.checkpoint_callback
    if checkpoint.best_model_score is None:
        log.warning(
            "never scored: trainer.check_val_every_n_epoch=%s is more than the epochs",
            config.trainer.check_val_every_n_epoch,
        )
        return
    best = checkpoint.best_model_path
    if trainer.is_global_zero:
        log.info("best %s %.4f: %s", config.monitor, float(checkpoint.best_model_score), best)
    if "test" in data.splits:
        trainer.test(module, datamodule=data, ckpt_path=best)


if __name__ == "__main__":
    run("train", train)

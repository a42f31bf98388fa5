"""Evaluate: ``uv run tools/evaluate.py task=cls model=b0 weights=<run>/checkpoints/best.ckpt``."""

import json
import logging
from pathlib import Path

from _launch import run
from omegaconf import DictConfig

log = logging.getLogger(__name__)


def evaluate(config: DictConfig) -> None:
    """Score weights on a split; print the scores and write them to ``scores.json``."""
    import pytorch_lightning as pl
    from hydra.utils import instantiate

    from backbone.errors import UserError

    pl.seed_everything(config.seed, workers=True, verbose=False)
    data = instantiate(config.data)
    known = [split for split in ("val", "test") if split in data.splits]
    if config.split not in known:
        raise UserError(f"split={config.split}: this data set can be scored on {', '.join(known)}")
    data.check([config.split])
    module = instantiate(config.task, class_names=data.class_names, batch_size=data.batch_size)
    report = getattr(module.model, "load_report", None)
    if report is not None and not report.complete:
        raise UserError(f"{report}; a score of weights that are partly random would mean nothing")
    progress = instantiate(config.callbacks.progress)
    trainer = instantiate(config.trainer, logger=False, callbacks=[progress])
    score = trainer.test if config.split == "test" else trainer.validate
    scores = score(module, datamodule=data, verbose=False)[0]
    if trainer.is_global_zero:
        path = Path(config.paths.output_dir) / "scores.json"
        path.write_text(json.dumps({"weights": config.weights, **scores}, indent=2) + "\n")
        for name, value in scores.items():
            log.info("%s %.4f", name, value)
        log.info("written to %s", path)


if __name__ == "__main__":
    run("evaluate", evaluate)

"""Evaluate: ``uv run tools/evaluate.py weights=<run>``."""

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Trainer

from compound.cli.runs import as_trained
from compound.errors import UserError
from compound.profiling.memory import keep_memory
from compound.report.run import try_report

log = logging.getLogger(__name__)

TABLE_WIDTH = 80


def evaluate(config: DictConfig) -> None:
    """Score weights on a split; print the scores and write them to ``scores.json``."""
    config = as_trained(config)
    data, module, trainer = built(config, config.split)
    score = trainer.test if config.split == "test" else trainer.validate
    scores = score(module, datamodule=data, verbose=False)[0]
    if trainer.is_global_zero:
        path = Path(config.paths.output_dir) / "scores.json"
        content = {
            "weights": config.weights,
            "root": config.data.root,
            "split": config.split,
            **without_nan(scores),
        }
        details = module.score_details()
        content |= {name: without_nan(scores) for name, scores in details.items() if scores}
        path.write_text(json.dumps(content, indent=2) + "\n")
        for line in (line for scores in details.values() for line in _table(scores)):
            log.info("%s", line)
        for name, value in scores.items():
            log.info("%s %.4f", name, value)
        log.info("written to %s", path)
        report(config, trainer, module, data, title=f"{config.weights} on {config.split}")


def report(config: DictConfig, trainer: Trainer, module: Any, data: Any, *, title: str) -> None:
    """Write ``report.html`` into the run's folder, if it is asked for."""
    if not config.report or not trainer.is_global_zero:
        return
    path = try_report(
        Path(config.paths.output_dir),
        title=title,
        module=module,
        data=data,
        config=OmegaConf.to_yaml(config, resolve=True),
        device=trainer.strategy.root_device.type,
    )
    if path is not None:
        log.info("report: %s", path)


def built(config: DictConfig, split: str) -> tuple[Any, Any, Trainer]:
    """Return the data, the module with its weights, and the trainer that scores it on a split.

    Raises:
        UserError: the weights do not fill the network, or the split is not there or not readable.
    """
    pl.seed_everything(config.seed, workers=True, verbose=False)
    if config.weights is None:
        raise UserError("weights=null: a score of random weights would mean nothing; name some")
    data = instantiate(config.data)
    known = [split for split in ("val", "test") if split in data.splits]
    if split not in known:
        advice = "; data.read.test= names a test split" if split == "test" else ""
        raise UserError(f"split={split}: this data set can be scored on {', '.join(known)}{advice}")
    data.check([split])
    module = instantiate(config.task, class_names=data.class_names, batch_size=data.batch_size)
    loaded = module.model.load_report
    if loaded is not None and not loaded.complete:
        raise UserError(f"{loaded}; a score of weights that are partly random would mean nothing")
    progress = instantiate(config.callbacks.progress)
    trainer = instantiate(config.trainer, logger=False, callbacks=[progress])
    keep_memory()
    return data, module, trainer


def without_nan(scores: Mapping[str, float]) -> dict[str, float | None]:
    """Return scores as JSON has them: it knows no nan."""
    return {name: None if value != value else value for name, value in scores.items()}


def _table(scores: Mapping[str, float]) -> Iterator[str]:
    """Yield lines with as many classes as fit next to each other."""
    widest = max(map(len, scores), default=0)
    cells = [f"{name:<{widest}} {score:.3f}" for name, score in scores.items()]
    columns = max(1, TABLE_WIDTH // (widest + 9))
    for start in range(0, len(cells), columns):
        yield "   ".join(cells[start : start + columns])

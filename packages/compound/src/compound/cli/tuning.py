"""What a training finds before it begins: ``data.batch_size=auto`` and ``lr_find=true``."""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.utilities import rank_zero_only

from compound.errors import UserError
from compound.training.batch_size import SMALLEST, largest_batch

log = logging.getLogger(__name__)

PLOT = "lr_find.png"


def is_first() -> bool:
    """Return whether this is the first process of the run."""
    return getattr(rank_zero_only, "rank", 0) == 0


def begin(config: DictConfig) -> bool:
    """Refuse what does not go together; return whether the batch is to be found.

    Until then the configuration has the smallest that any network trains with.

    Raises:
        UserError: a training that goes on is to find anew what it began with.
    """
    auto = config.data.batch_size == "auto"
    for asked, setting in ((auto, "data.batch_size=auto"), (config.lr_find, "lr_find=true")):
        if asked and config.ckpt_path is not None:
            raise UserError(
                f"{setting}: a training that goes on keeps what it began with; give "
                "optim.lr and data.batch_size as the config.yaml of its run has them"
            )
    if auto:
        config.data.batch_size = SMALLEST
    return auto


def find_batch(config: DictConfig, module: Any, data: Any) -> None:
    """Find the largest batch that fits, and train with it."""
    log.info("data.batch_size=auto: trying what fits")
    folder = Path(config.paths.output_dir)
    found = largest_batch(module, data, partial(instantiate, config.trainer), folder=folder)
    config.data.batch_size = data.batch_size = module.batch_size = found.size
    log.info("data.batch_size=%d takes %s", found.size, found.reason)


def find_rate(config: DictConfig, module: Any, data: Any) -> None:
    """Find the learning rate, draw how, and train with it."""
    from compound.training import lr_find  # with matplotlib

    folder = Path(config.paths.output_dir)
    curve = lr_find.find_rate(module, data, partial(instantiate, config.trainer), folder=folder)
    if is_first() and len(curve.losses):
        lr_find.plot(curve, folder / PLOT)
    if curve.problem:
        if is_first():
            log.warning("lr_find: %s; optim.lr=%g stays", curve.problem, config.optim.lr)
        return
    rate = curve.suggestion
    config.optim.lr = rate
    module.optim = replace(module.optim, lr=rate)
    if is_first():
        log.info("lr_find: optim.lr=%g, as %s shows", rate, folder / PLOT)

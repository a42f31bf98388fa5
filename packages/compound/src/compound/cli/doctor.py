"""Check a data set before a training: ``uv run tools/doctor.py data=voc data.root=<folder>``."""

import logging
import sys
from pathlib import Path

from omegaconf import DictConfig

log = logging.getLogger(__name__)

# Of a data set with errors.
EXIT_FAILED = 1
_LEVELS = {"error": logging.ERROR, "warning": logging.WARNING, "hint": logging.INFO}


def doctor(config: DictConfig) -> None:
    """Check the data set that the configuration names, as its network will see it."""
    import pytorch_lightning as pl
    from hydra.core.hydra_config import HydraConfig
    from hydra.utils import instantiate

    from compound.cli.doctors import diagnose
    from compound.doctor.diagnosis import Options, verdict
    from compound.doctor.findings import lines, ordered, passes

    options = Options(
        pictures=config.pictures,
        samples=config.samples,
        generations=config.generations,
        seed=config.seed,
    )
    pl.seed_everything(config.seed, workers=True, verbose=False)
    data = instantiate(config.data)
    module = instantiate(config.task, class_names=data.class_names, batch_size=data.batch_size)
    module.inform(data)
    diagnosis = diagnose(data, module, options)
    choices = HydraConfig.get().runtime.choices
    words = f"task={choices['task']} model={choices['model']} data={choices['data']}"
    where = "" if config.data.root is None else f" data.root={config.data.root}"
    paths = diagnosis.write(Path(config.paths.output_dir), title=f"{words}{where}")
    for finding in ordered(diagnosis.findings):
        for text in lines(finding):
            log.log(_LEVELS[finding.severity], "%s", text)
    log.info("written to %s", ", ".join(map(str, paths)))
    log.info("%s", verdict(diagnosis.findings))
    if not passes(diagnosis.findings):
        sys.exit(EXIT_FAILED)

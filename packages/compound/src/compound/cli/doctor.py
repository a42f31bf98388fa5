"""Check a data set before a training: ``uv run tools/doctor.py data=voc data.root=<folder>``."""

import logging
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from compound.cli.networks import chosen_task
from compound.doctor.diagnosis import Options, verdict
from compound.doctor.findings import line, lines, ordered, passes, tally
from compound.report.run import samples_section
from compound.task import Task

log = logging.getLogger(__name__)

# Of a data set with errors.
EXIT_FAILED = 1
_LEVELS = {"error": logging.ERROR, "warning": logging.WARNING, "hint": logging.INFO}
# Checks whose findings data modules log themselves.
_LOGGED = ("repaired",)


def doctor(config: DictConfig) -> None:
    """Check the data set that the configuration names, as its network will see it."""
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
    diagnosis = chosen_task(config).diagnose(data, module, options)
    diagnosis.sections.append(samples_section(module, data, options.samples))
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


def log_fast_checks(task: Task, data: Any, module: Any) -> None:
    """Log what a training should know of its data, in a moment; hints are only counted."""
    try:
        findings = ordered(task.check_fast(data, module))
    except Exception as error:  # whatever it is, the training itself may well run
        log.warning("data: the quick check failed: %s", error)
        return
    for finding in findings:
        if finding.severity != "hint" and finding.check not in _LOGGED:
            log.warning("data: %s", line(finding))
    log.info("data: %s at first sight; tools/doctor.py looks closer", tally(findings))

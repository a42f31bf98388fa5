"""The report of a run: what its task has to say, how it went and with what it was made."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compound.profiling.machine import describe
from compound.report.page import Gallery, Section, write_page
from compound.report.training import making_section, read_metrics, training_section

if TYPE_CHECKING:
    from compound.training.task_module import TaskModule

log = logging.getLogger(__name__)

# Augmented pictures that are shown.
NUM_SAMPLES = 12


def write_report(
    folder: Path, *, title: str, module: "TaskModule", data: Any, config: str, device: str
) -> Path:
    """Write ``report.html`` into a run's folder; return its path.

    Args:
        folder: where ``metrics.csv`` lies, if it was trained.
        title: the page's heading.
        module: what was trained or scored.
        data: its data.
        config: the configuration as text.
        device: that it ran on, ``cpu`` or ``cuda``.
    """
    metrics = read_metrics(folder / "metrics.csv")
    path = folder / "report.html"
    write_page(
        path,
        title=title,
        summary=_shown(folder),
        sections=[
            *module.report(data),
            *([training_section(metrics)] if metrics else []),
            samples_section(module, data, NUM_SAMPLES),
            making_section(config, describe(device)),
        ],
    )
    return path


def samples_section(module: "TaskModule", data: Any, count: int) -> Section:
    """Return augmented training pictures as the network sees them."""
    shots = module.sample_shots(data, count)
    seen = Gallery("Training pictures as the network sees them", shots, data.class_names)
    return Section("Augmented", [seen] if shots else [])


def try_report(folder: Path, **told: Any) -> Path | None:
    """Write a report as `write_report` does; if that fails, say why: the run itself is done."""
    try:
        return write_report(folder, **told)
    except Exception as error:  # whatever it is, weights and scores are worth more
        log.warning("no report could be written: %s", error, exc_info=True)
        return None


def _shown(folder: Path) -> str:
    """Return a folder as it is seen from here, if it is below."""
    whole, here = folder.absolute(), Path.cwd()
    return str(whole.relative_to(here) if whole.is_relative_to(here) else whole)

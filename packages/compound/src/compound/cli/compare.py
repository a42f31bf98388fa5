"""Compare: ``uv run tools/compare.py rows=table10``: the training time of networks."""

import logging
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf

from compound.cli.tables import print_table
from compound.errors import UserError, closest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from compound.compare.contest import Contest, Row
    from compound.report.page import Table

log = logging.getLogger(__name__)

EXIT_ROW_FAILED = 1
WIDTH = 150
DPI = 120
NOTES = (
    "Milliseconds are of a step, pictures a second of one device; of a training in stages both are "
    "means over its epochs, each size counted by its share. The peak is that of the largest size.",
    "Hours are epochs x pictures, divided by the rate of one device and the number of devices, "
    "which share the work at no loss. At each size the rate is the lower of steps and loader. "
    "Validation, mixing and the average of the weights are not in them.",
    "Medians over rounds, with the least and the most. Rows took turns, A B A B, and a ratio is "
    "taken within a round, so that drift cancels. The loader read drawn JPEG pictures.",
    "The paper's hours are on 32 TPUv3 cores, its inference on a V100 with 16 bits.",
)
TRAIN_NOTES = (
    "Minutes count from the start of the fit to the last score. Equal time is when the fastest row "
    "of a seed had ended; a ratio is of trainings with the same seed. Errors are standard errors.",
)


@dataclass(frozen=True, slots=True)
class Found:
    """What a comparison came to: for the page, for the CSV and JSON files, and who failed."""

    title: str
    notes: Sequence[str]
    tables: "Sequence[Table]"
    figures: "Mapping[str, Figure]"
    lines: Sequence[Mapping[str, Any]]
    ratios: Sequence[Mapping[str, Any]]
    content: Mapping[str, Any]
    failed: Sequence[str]


def compare(config: DictConfig) -> None:
    """Measure or train the rows; print what was found and write it into the run's folder."""
    from compound.compare.contest import find_contest
    from compound.compare.rows import read_rows

    closest(str(config.mode), ("throughput", "train"), what="mode")
    others = sorted(set(config.logger) - {"wandb", "csv"})
    if others:
        raise UserError(f"logger={others[0]}: a comparison takes none or wandb; it writes CSV")
    contest = find_contest(str(config.contest))
    rows = read_rows(
        OmegaConf.to_container(config.rows, resolve=True),  # pyright: ignore[reportArgumentType]
        contest,
        only=None if config.only is None else [str(name) for name in _several(config.only)],
        epochs=config.epochs,
        images=config.images,
        batch_size=config.batch_size,
    )
    folder = Path(config.paths.output_dir)
    found = None
    # Written after each round and seed, so that an interruption loses no more than one.
    mode = _measured if config.mode == "throughput" else _trained
    for found in mode(config, contest, rows, folder):
        _write(config, folder, found)
    assert found is not None
    for table in found.tables:
        print_table(table.title, table.columns, table.rows, width=WIDTH)
    _track(config, found, folder)
    log.info("written to %s", folder)
    if found.failed:
        log.error("no result, or not all of it, of %s", ", ".join(found.failed))
        sys.exit(EXIT_ROW_FAILED)


def _measured(
    config: DictConfig, contest: "Contest", rows: "Sequence[Row]", folder: Path
) -> Iterator[Found]:
    """Measure the rows' steps, round by round."""
    from compound.compare import plots, tables, throughput
    from compound.compare.projection import project, ratios
    from compound.profiling.machine import pick_device

    devices = config.devices
    if not isinstance(devices, int) or isinstance(devices, bool) or devices < 1:
        raise UserError(f"devices={devices}: expected a whole number of 1 or more")
    keys = [field.name for field in fields(throughput.ThroughputPlan) if field.name != "device"]
    plan = throughput.ThroughputPlan(
        device=pick_device(str(config.device)), **{key: config[key] for key in keys}
    )
    where = f"{_machine(plan.device)}, {plan.precision}"
    for outcomes in throughput.compare(rows, plan):
        projections = [project(outcome, devices=devices) for outcome in outcomes]
        found = ratios(outcomes)
        drawn = {
            "accuracy": plots.plot_accuracy(outcomes, projections),
            "throughput": plots.plot_throughput(outcomes),
        }
        yield Found(
            title=f"{contest.title} on {where}",
            notes=NOTES,
            tables=tables.throughput_tables(
                outcomes, projections, found, title=where, devices=devices
            ),
            figures={name: figure for name, figure in drawn.items() if figure is not None},
            lines=[
                {**asdict(outcome.row), "pixels": [part.size for part in outcome.parts],
                 "failure": outcome.failure, **({} if projection is None else asdict(projection))}
                for outcome, projection in zip(outcomes, projections, strict=True)
            ],
            ratios=[asdict(ratio) for ratio in found],
            content={"settings": asdict(plan), "devices": devices,
                     "measurements": [asdict(outcome) for outcome in outcomes]},
            failed=[outcome.row.name for outcome in outcomes if outcome.failure is not None],
        )  # fmt: skip


def _trained(
    config: DictConfig, contest: "Contest", rows: "Sequence[Row]", folder: Path
) -> Iterator[Found]:
    """Train the rows, seed by seed."""
    from compound.compare import plots, tables
    from compound.compare.scores import TrainingPlan, train
    from compound.compare.seeds import learnt, speed_ups
    from compound.profiling.machine import pick_device

    told = config.train
    plan = TrainingPlan(
        command=(sys.executable, "-m", "compound", "train"),
        seeds=tuple(_several(told.seeds)),
        minutes=told.minutes,
        target=told.target,
        metric=told.metric,
        overrides=tuple(map(str, _several(told.overrides))),
        source=config.source,
        accelerator=pick_device(str(config.device)),
        precision=config.precision,
    )
    where = _machine(plan.accelerator)
    for results in train(rows, plan, contest, folder):
        found, ratios = learnt(results, target=plan.target), speed_ups(results)
        scores = plots.plot_scores(results, metric=plan.metric, target=plan.target)
        yield Found(
            title=f"{contest.title} trained on {where}",
            notes=TRAIN_NOTES,
            tables=tables.training_tables(
                found, ratios, metric=plan.metric, target=plan.target, seeds=len(plan.seeds)
            ),
            figures={"scores": scores},
            lines=[asdict(line) for line in found],
            ratios=[asdict(ratio) for ratio in ratios],
            content={"plan": asdict(plan), "trainings": [asdict(result) for result in results]},
            failed=[result.row.name for result in results if result.failure is not None],
        )


def _write(config: DictConfig, folder: Path, found: Found) -> None:
    """Write CSV, JSON, plots and the page."""
    from compound.compare.outputs import flat, write_comparison, write_csv, write_json

    head = {"mode": config.mode, "title": found.title}
    head["tables"] = [table._asdict() for table in found.tables]
    lists = {"rows": list(found.lines), "ratios": list(found.ratios)}
    write_json(folder / "compare.json", {**head, **lists, **found.content})
    write_csv(folder / "compare.csv", [flat(line) for line in found.lines])
    write_csv(folder / "ratios.csv", [flat(line) for line in found.ratios])
    for name, figure in found.figures.items():
        figure.savefig(folder / f"{name}.png", dpi=DPI, facecolor="white")
    write_comparison(
        folder / "report.html",
        title=found.title,
        notes=found.notes,
        tables=found.tables,
        figures=found.figures,
    )


def _track(config: DictConfig, found: Found, folder: Path) -> None:
    """Write W&B's tables where it is asked for."""
    if "wandb" in config.logger:
        from hydra.utils import instantiate

        from compound.tracking.trackers import FailSafe
        from compound.tracking.wandb_run import log_comparison

        name = f"compare-{HydraConfig.get().runtime.choices['rows']}"
        logger = instantiate(config.logger.wandb, name=name)
        plots = [folder / f"{figure}.png" for figure in found.figures]
        FailSafe(logger).attempt(lambda: log_comparison(logger, found.tables, plots))


def _several(value: Any) -> Sequence[Any]:
    """Return a list, also for one that was written without brackets."""
    return list(value) if isinstance(value, ListConfig) else [value]


def _machine(device: str) -> str:
    name = f"{platform.machine()} CPU"
    if device == "cuda":
        import torch

        name = torch.cuda.get_device_name()
    return f"{name}, torch {version('torch')}"

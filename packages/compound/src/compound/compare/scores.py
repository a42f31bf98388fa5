"""Train every row on real data for the same budget and seeds, and read how its score grew.

Rows take turns within each seed, so that a drift of the machine meets all alike.
"""

import csv
import logging
import math
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from compound.compare.contest import Contest, Row
from compound.compare.processes import Failure, failure
from compound.errors import UserError, closest
from compound.profiling.settings import PRECISIONS

log = logging.getLogger(__name__)

# What `tools/train.py` writes when an epoch was scored.
_SCORED = re.compile(r"\[([\d-]+ [\d:]+),(\d+)\].* epoch (\d+)/\d+ ")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """How the rows are trained.

    Attributes:
        command: what trains, to which overrides are added.
        seeds: one training of each row for each.
        minutes: a training is stopped there; None lets its epochs end.
        target: the score whose time is asked for.
        metric: the score, as the run's ``metrics.csv`` calls it.
        overrides: for all rows; a row's own win.
        source: whose numbers the recipes take.
        accelerator: Lightning's.
        precision: Lightning's.
    """

    command: tuple[str, ...]
    seeds: tuple[int, ...]
    minutes: float | None
    target: float
    metric: str
    overrides: tuple[str, ...]
    source: str
    accelerator: str
    precision: str

    def __post_init__(self) -> None:
        """Refuse what cannot be planned."""
        seeds = self.seeds
        if not seeds or any(not isinstance(s, int) or s < 0 for s in seeds):
            raise UserError(f"train.seeds={list(seeds)}: expected whole numbers, such as [0,1,2]")
        if len(set(seeds)) < len(seeds):
            raise UserError(f"train.seeds={list(seeds)}: a seed twice would count its run twice")
        minutes = self.minutes
        if minutes is not None and (not isinstance(minutes, int | float) or minutes <= 0):
            raise UserError(f"train.minutes={minutes}: expected more than 0, or null")
        if not isinstance(self.target, int | float):
            raise UserError(f"train.target={self.target}: expected a score, such as 0.9")
        closest(self.precision, PRECISIONS, what="precision")


@dataclass(frozen=True, slots=True)
class Curve:
    """Scores of one training and the minutes from the start of its fit until they were known."""

    minutes: tuple[float, ...]
    scores: tuple[float, ...]

    def at(self, minutes: float) -> float | None:
        """Return the last score that was known by then, if there was one."""
        known = [s for m, s in zip(self.minutes, self.scores, strict=True) if m <= minutes]
        return known[-1] if known else None

    def reached(self, target: float) -> float | None:
        """Return the minutes until a score was at least ``target``, if any was."""
        pairs = zip(self.minutes, self.scores, strict=True)
        return next((minutes for minutes, score in pairs if score >= target), None)


@dataclass(slots=True)
class Trained:
    """What became of a row: a curve by seed, or why there is none."""

    row: Row
    curves: dict[int, Curve] = field(default_factory=dict)
    failure: str | None = None


def train(
    rows: Sequence[Row], plan: TrainingPlan, contest: Contest, folder: Path
) -> Iterator[list[Trained]]:
    """Train the rows; one that fails is left out from there on, and the others go on.

    Args:
        rows: what to train.
        plan: how.
        contest: of the rows.
        folder: gets a run's folder for each row and seed.

    Yields:
        After each seed what was learnt so far.

    Raises:
        UserError: the contest has no such metric or source, or a row has no data set.
    """
    closest(plan.metric, contest.metrics, what="train.metric")
    closest(plan.source, contest.sources, what="source")
    for row in rows:
        words = (*plan.overrides, *row.train)
        if not any(word.startswith(("data=", "experiment=")) for word in words):
            raise UserError(
                f"rows.{row.name}: nothing says what it learns from; add data=... to "
                "train.overrides, such as data=imagefolder"
            )
    results = [Trained(row) for row in rows]
    for seed in plan.seeds:
        for result in results:
            if result.failure is not None:
                continue
            name = result.row.name
            log.info("seed %d: %s", seed, name)
            words = overrides(result.row, plan, contest, seed)
            try:
                result.curves[seed] = _train_one(plan, words, folder / f"{name}-seed{seed}")
            except Failure as error:
                result.failure = f"{error.reason} (seed {seed})"
                log.warning("%s: %s", name, result.failure)
        yield results


def _train_one(plan: TrainingPlan, words: Sequence[str], folder: Path) -> Curve:
    command = [*plan.command, *words, f"hydra.run.dir={folder}"]
    done = subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "stderr.txt").write_text(done.stderr)
        raise failure(done.returncode, done.stderr)
    curve = read_curve(folder, plan.metric)
    if not curve.scores:
        raise Failure(f"{plan.metric} was never scored")
    log.info("  %s %.4f after %.2f minutes", plan.metric, curve.scores[-1], curve.minutes[-1])
    return curve


def overrides(row: Row, plan: TrainingPlan, contest: Contest, seed: int) -> list[str]:
    """Return what `tools/train.py` is told; of a key that comes twice the later counts."""
    words = ["logger=csv", "report=false", *contest.overrides(row, plan.source)]
    if row.size is not None:
        words += [f"data.train_size={row.size}"]
    words += [
        f"trainer.max_epochs={row.epochs}",
        f"trainer.accelerator={plan.accelerator}",
        f"trainer.precision={plan.precision}",
        f"data.batch_size={row.batch_size}",
        *plan.overrides,
        *row.train,
        f"seed={seed}",
    ]
    if plan.minutes is not None:
        words += [f"+trainer.max_time='{_clock(plan.minutes)}'"]
    return list({word.partition("=")[0].lstrip("+"): word for word in words}.values())


def _clock(minutes: float) -> str:
    """Return days:hours:minutes:seconds."""
    seconds = max(1, round(minutes * 60))
    days, rest = divmod(seconds, 24 * 3600)
    return f"{days:02d}:{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"


def read_curve(folder: Path, metric: str) -> Curve:
    """Return a run's scores by time.

    ``config.yaml`` is written when the training begins; the log says when an epoch was scored.
    """
    began = (folder / "config.yaml").stat().st_mtime
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        scores = {int(row["epoch"]): float(row[metric])
                  for row in csv.DictReader(file) if row.get(metric)}  # fmt: skip
    minutes: dict[int, float] = {}
    for line in (folder / "train.log").read_text(encoding="utf-8").splitlines():
        if found := _SCORED.match(line):
            stamp = datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").timestamp()
            minutes[int(found[3]) - 1] = (stamp + int(found[2]) / 1000 - began) / 60
    known = [e for e in sorted(minutes) if e in scores and not math.isnan(scores[e])]
    return Curve(tuple(minutes[e] for e in known), tuple(scores[e] for e in known))

"""Measure every row in turn, round after round: A B A B, so that a drift meets all alike."""

import logging
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from compound.compare.contest import Contest, Part, find_contest
from compound.compare.jobs import Job, LoaderJob, StepJob
from compound.compare.processes import Failure, Nursery
from compound.compare.rows import Row
from compound.errors import UserError, closest
from compound.profiling.settings import Settings, check_precision, check_whole
from compound.profiling.steps import Timed

log = logging.getLogger(__name__)

# Larger batches of a loader give no other rate, but take long to wait for.
MAX_LOADED = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputPlan:
    """How the rows are measured.

    Attributes:
        contest: name of the entry point of the rows' `Contest`.
        device: ``cpu`` or ``cuda``.
        precision: see `check_precision`.
        source: whose numbers the recipes take.
        rounds: how often each row has its turn.
        warmup: steps of each turn that are not counted.
        steps: steps that are, of which the median is taken.
        loader: whether the loader is measured too.
        loader_batches: batches of each worker that are counted.
        num_workers: the loader's; None takes half of the cores, 8 at most.
        channels_last: how tensors are laid out.
        memory_limit: gibibytes that a measurement may take; None for all there is.
    """

    contest: str
    device: str
    precision: str
    source: str
    rounds: int = 3
    warmup: int = 2
    steps: int = 5
    loader: bool = True
    loader_batches: int = 4
    num_workers: int | None = None
    channels_last: bool = True
    memory_limit: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        closest(self.device, ("cpu", "cuda"), what="device")
        check_precision(self.precision, self.device)
        check_whole(self, rounds=1, warmup=0, steps=1, loader_batches=1)
        workers = self.num_workers
        if workers is not None and (not isinstance(workers, int) or workers < 0):
            raise UserError(f"num_workers={workers}: expected 0 or more, or null")
        limit = self.memory_limit
        if limit is not None and (not isinstance(limit, int | float) or limit <= 0):
            raise UserError(f"memory_limit={limit}: expected gibibytes above 0, or null")


@dataclass(slots=True)
class Outcome:
    """What was measured of a row.

    Attributes:
        row: the row.
        parts: the sizes it trains at.
        steps: training steps of each round, of each part.
        loader: pictures a second of the loader, of each round, of each part; None where it was
            not measured.
        inference: pictures a second of each round, where the row has a published number.
        failure: why the row has no result; None where it has one.
    """

    row: Row
    parts: tuple[Part, ...]
    steps: list[tuple[Timed, ...]] = field(default_factory=list)
    loader: list[tuple[float | None, ...]] = field(default_factory=list)
    inference: list[float] = field(default_factory=list)
    failure: str | None = None


class _Failed(Exception):
    """A measurement that gave nothing; its message says why."""


def compare(rows: Sequence[Row], plan: ThroughputPlan) -> Iterator[list[Outcome]]:
    """Measure rows in rounds; one that fails is left out from there on, and the others go on.

    Yields:
        After each round what was measured so far.

    Raises:
        UserError: there is no such contest, or it has no such source.
    """
    contest = find_contest(plan.contest)
    closest(plan.source, contest.sources, what="source")
    outcomes = [Outcome(row, contest.parts(row, plan.source)) for row in rows]
    with Nursery(plan.contest) as nursery:
        for number in range(plan.rounds):
            # Rows that read the same images the same way share the measurement of the round.
            loaders: dict[Hashable, float] = {}
            for outcome in outcomes:
                if outcome.failure is not None:
                    continue
                log.info("round %d of %d: %s", number + 1, plan.rounds, outcome.row.name)
                try:
                    _turn(outcome, plan, contest, nursery, loaders)
                except _Failed as error:
                    outcome.failure = str(error)
                    log.warning("%s: %s", outcome.row.name, error)
            yield outcomes


def _turn(
    outcome: Outcome,
    plan: ThroughputPlan,
    contest: Contest,
    nursery: Nursery,
    loaders: dict[Hashable, float],
) -> None:
    """Measure one row once."""
    row = outcome.row
    steps, loader = [], []
    for part in outcome.parts:
        times: Timed = _result(nursery, step_job(row, part.size, plan))
        steps.append(times)
        rate = None
        if plan.loader:
            job = loader_job(row, part.size, plan)
            reading = (contest.reading(row, plan.source), job.size, job.batch_size)
            if reading not in loaders:
                loaders[reading] = _result(nursery, job)
            rate = loaders[reading]
        loader.append(rate)
        log.info(
            "  %d px: %.1f images/s%s, %.2f GiB",
            part.size,
            times.images_per_second,
            "" if rate is None else f", the loader {rate:.1f}",
            times.peak_gib,
        )
    if row.paper_images_per_second is not None:
        size = contest.eval_size(row)
        inference: Timed = _result(nursery, replace(step_job(row, size, plan), learns=False))
        log.info("  inference, %d px: %.1f images/s", size, inference.images_per_second)
        outcome.inference.append(inference.images_per_second)
    outcome.steps.append(tuple(steps))
    outcome.loader.append(tuple(loader))


def _result(nursery: Nursery, job: Job) -> Any:
    result = nursery.measured(job)
    if isinstance(result, Failure):
        raise _Failed(f"{result.reason} in {job.what}")
    return result


def step_job(row: Row, size: int, plan: ThroughputPlan) -> StepJob:
    """Return the job that measures a row's steps at a size."""
    return StepJob(
        contest=plan.contest,
        row=row,
        source=plan.source,
        size=size,
        settings=Settings(
            device=plan.device, precision=plan.precision, rounds=plan.steps, warmup=plan.warmup
        ),
        channels_last=plan.channels_last,
        memory_limit=plan.memory_limit,
    )


def loader_job(row: Row, size: int, plan: ThroughputPlan) -> LoaderJob:
    """Return the job that measures a row's loader at a size."""
    return LoaderJob(
        contest=plan.contest,
        row=row,
        source=plan.source,
        size=size,
        batch_size=min(row.batch_size, MAX_LOADED),
        num_workers=plan.num_workers,
        batches=plan.loader_batches,
    )

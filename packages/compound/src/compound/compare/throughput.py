"""Measure every row in turn, round after round: A B A B, so that a drift meets all alike."""

import logging
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from compound.compare.contest import Contest, Part, Row, find_contest
from compound.compare.jobs import Job
from compound.compare.jobs import ThroughputPlan as ThroughputPlan
from compound.compare.processes import Failure, measured
from compound.errors import closest
from compound.profiling.steps import Timed

log = logging.getLogger(__name__)


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
    for number in range(plan.rounds):
        # Rows that read the same images the same way share the measurement of the round.
        loaders: dict[Hashable, float] = {}
        for outcome in outcomes:
            if outcome.failure is not None:
                continue
            log.info("round %d of %d: %s", number + 1, plan.rounds, outcome.row.name)
            try:
                _turn(outcome, plan, contest, loaders)
            except Failure as error:
                outcome.failure = error.reason
                log.warning("%s: %s", outcome.row.name, error)
        yield outcomes


def _turn(
    outcome: Outcome, plan: ThroughputPlan, contest: Contest, loaders: dict[Hashable, float]
) -> None:
    """Measure one row once."""
    row = outcome.row
    steps, loader = [], []
    for part in outcome.parts:
        times: Timed = measured(Job("training", row, part.size, plan))
        steps.append(times)
        rate = None
        if plan.loader:
            job = Job("loading", row, part.size, plan)
            reading = (contest.reading(row, plan.source), job.size, job.batch_size)
            if reading not in loaders:
                loaders[reading] = measured(job)
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
        inference: Timed = measured(Job("inference", row, size, plan))
        log.info("  inference, %d px: %.1f images/s", size, inference.images_per_second)
        outcome.inference.append(inference.images_per_second)
    outcome.steps.append(tuple(steps))
    outcome.loader.append(tuple(loader))

"""Measure every row in turn, round after round: A B A B, so that a drift meets all alike."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from compound.compare.jobs import LoaderJob, StepJob, StepTimes
from compound.compare.processes import Failure, Nursery
from compound.compare.rows import NETWORKS, Part, Row, final_recipe, parts
from compound.errors import UserError, closest
from compound.profiling.settings import check_precision
from efficientnetv2.recipes import Source

log = logging.getLogger(__name__)

# Larger batches of a loader give no other rate, but take long to wait for.
MAX_LOADED = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to measure.

    Attributes:
        device: ``cpu`` or ``cuda``.
        precision: see `check_precision`.
        source: whose numbers of V2's recipe, ``official`` or ``paper``.
        rounds: how often each row has its turn.
        warmup: steps of each turn that are not counted.
        steps: steps that are, of which the median is taken.
        loader: whether the loader is measured too.
        loader_batches: batches of each worker that are counted.
        num_workers: the loader's; None takes half of the cores, 8 at most.
        channels_last: how tensors are laid out.
        memory_limit: gibibytes that a measurement may take; None for all there is.
    """

    device: str
    precision: str
    source: Source = "official"
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
        closest(self.source, get_args(Source), what="source")
        for key, least in (("rounds", 1), ("warmup", 0), ("steps", 1), ("loader_batches", 1)):
            value = getattr(self, key)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise UserError(f"{key}={value}: expected a whole number of {least} or more")
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
        steps: of each round, of each part.
        loader: pictures a second of the loader, of each round, of each part; None where it was
            not measured.
        inference: pictures a second of each round, where the row has a published number.
        failure: why the row has no result; None where it has one.
    """

    row: Row
    parts: tuple[Part, ...]
    steps: list[tuple[StepTimes, ...]] = field(default_factory=list)
    loader: list[tuple[float | None, ...]] = field(default_factory=list)
    inference: list[float] = field(default_factory=list)
    failure: str | None = None


class _Failed(Exception):
    """A measurement that gave nothing; its message says why."""


def compare(rows: Sequence[Row], settings: Settings) -> Iterator[list[Outcome]]:
    """Measure rows in rounds; one that fails is left out from there on, and the others go on.

    Yields:
        After each round what was measured so far.
    """
    outcomes = [Outcome(row, parts(row, settings.source)) for row in rows]
    with Nursery() as nursery:
        for number in range(settings.rounds):
            # Rows that read the same pictures the same way share the measurement of the round.
            loaders: dict[LoaderJob, float] = {}
            for outcome in outcomes:
                if outcome.failure is not None:
                    continue
                log.info("round %d of %d: %s", number + 1, settings.rounds, outcome.row.name)
                try:
                    _turn(outcome, settings, nursery, loaders)
                except _Failed as error:
                    outcome.failure = str(error)
                    log.warning("%s: %s", outcome.row.name, error)
            yield outcomes


def _turn(
    outcome: Outcome, settings: Settings, nursery: Nursery, loaders: dict[LoaderJob, float]
) -> None:
    """Measure one row once."""
    row = outcome.row
    steps, loader = [], []
    for part in outcome.parts:
        times = StepTimes(**_result(nursery, step_job(row, part.size, settings)))
        steps.append(times)
        rate = None
        if settings.loader:
            reading = loader_job(row, part.size, settings)
            if reading not in loaders:
                loaders[reading] = _result(nursery, reading)
            rate = loaders[reading]
        loader.append(rate)
        log.info(
            "  %d px: %.1f images/s%s, %.2f GiB",
            part.size,
            times.images_per_second(row.batch_size),
            "" if rate is None else f", the loader {rate:.1f}",
            times.peak_gib,
        )
    if row.paper_images_per_second is not None:
        size = NETWORKS[row.model].image_size
        inference = _result(nursery, replace(step_job(row, size, settings), learns=False))
        log.info("  inference, %d px: %.1f images/s", size, inference)
        outcome.inference.append(inference)
    outcome.steps.append(tuple(steps))
    outcome.loader.append(tuple(loader))


def _result(nursery: Nursery, job: StepJob | LoaderJob) -> Any:
    result = nursery.measured(job)
    if isinstance(result, Failure):
        what = "loading"
        if isinstance(job, StepJob):
            what = "training" if job.learns else "inference"
        raise _Failed(f"{result.reason} in {what} {job.batch_size} pictures of {job.size} px")
    return result


def step_job(row: Row, size: int, settings: Settings) -> StepJob:
    """Return the job that measures a row's steps at a size."""
    return StepJob(
        model=row.model,
        size=size,
        batch_size=row.batch_size,
        dropout=final_recipe(row, settings.source).dropout,
        decay_biases=row.recipe == "v1",
        device=settings.device,
        precision=settings.precision,
        channels_last=settings.channels_last,
        warmup=settings.warmup,
        steps=settings.steps,
        memory_limit=settings.memory_limit,
    )


def loader_job(row: Row, size: int, settings: Settings) -> LoaderJob:
    """Return the job that measures what a row reads; magnitudes are those of the last stage."""
    recipe = final_recipe(row, settings.source)
    return LoaderJob(
        size=size,
        batch_size=min(row.batch_size, MAX_LOADED),
        policy=recipe.policy,
        scale=recipe.scale,
        interpolation=NETWORKS[row.model].preprocessing.interpolation,
        num_workers=settings.num_workers,
        batches=settings.loader_batches,
    )

"""From measured rates to the hours of whole trainings, and to how rows compare."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from compound.compare.rows import pairs, paper_inference_ratio, paper_ratio
from compound.compare.throughput import Outcome
from compound.profiling.steps import Timed

SECONDS_AN_HOUR = 3600


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of the rounds, and the least and the most of them."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of some values."""
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Projection:
    """What a row's training takes.

    Seconds of a step and pictures a second are means over the epochs of all sizes, the memory is
    the most of them. A training waits for whichever is slower at a size, steps or loader;
    ``step_hours`` are those of the steps alone.
    """

    forward: float
    backward: float
    optimizer: float
    images_per_second: float
    loader_images_per_second: float | None
    peak_gib: float
    hours: Spread
    step_hours: Spread


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times faster a row is than another; None where a number is missing.

    Each round gives a ratio of its own, as both rows had their turn in it.
    """

    row: str
    baseline: str
    training: Spread | None
    steps: Spread | None
    paper_training: float | None
    inference: Spread | None
    paper_inference: float | None


def hours(shares: Sequence[float], rates: Sequence[float], *, images: float, devices: int) -> float:
    """Return the hours of a training.

    Args:
        shares: of the pictures that are learnt from at each size.
        rates: pictures a second on one device at each size.
        images: how many pictures are learnt from, repeats included.
        devices: how many share them, at no loss.
    """
    return images / _mean_rate(shares, rates) / devices / SECONDS_AN_HOUR


def project(outcome: Outcome, *, devices: int) -> Projection | None:
    """Return what a row's training takes on so many devices; None for a row that failed."""
    if outcome.failure is not None:
        return None
    shares = [part.share for part in outcome.parts]
    step_rates = [_step_rates(steps) for steps in outcome.steps]

    def phase(*names: str) -> float:
        rounds = (
            [sum(times.parts[n] for n in names) for times in steps] for steps in outcome.steps
        )
        return median(sum(s * v for s, v in zip(shares, values, strict=True)) for values in rounds)

    known = [[rate for rate in rates if rate is not None] for rates in outcome.loader]
    complete = all(len(rates) == len(shares) for rates in known)
    return Projection(
        forward=phase("to device", "forward", "loss"),
        backward=phase("backward"),
        optimizer=phase("optimizer"),
        images_per_second=median(_mean_rate(shares, rates) for rates in step_rates),
        loader_images_per_second=(
            median(_mean_rate(shares, rates) for rates in known) if complete else None
        ),
        peak_gib=max(times.peak_gib for steps in outcome.steps for times in steps),
        hours=Spread.of(_hours(outcome, devices, loaded=True)),
        step_hours=Spread.of(_hours(outcome, devices, loaded=False)),
    )


def ratios(outcomes: Sequence[Outcome]) -> list[Ratio]:
    """Return how each row compares with its baselines."""
    by_name = {outcome.row.name: outcome for outcome in outcomes}
    found = []
    for row, baseline in pairs([outcome.row for outcome in outcomes]):
        mine, other = by_name[row.name], by_name[baseline.name]
        failed = mine.failure is not None or other.failure is not None
        found.append(
            Ratio(
                row=row.name,
                baseline=baseline.name,
                training=None if failed else _quotients(other, mine, loaded=True),
                steps=None if failed else _quotients(other, mine, loaded=False),
                paper_training=paper_ratio(row, baseline),
                inference=None if failed else _of(mine.inference, other.inference),
                paper_inference=paper_inference_ratio(row, baseline),
            )
        )
    return found


def _quotients(slow: Outcome, fast: Outcome, *, loaded: bool) -> Spread | None:
    # The number of devices cancels.
    return _of(_hours(slow, 1, loaded=loaded), _hours(fast, 1, loaded=loaded))


def _of(numerators: Sequence[float], denominators: Sequence[float]) -> Spread | None:
    if not (numerators and denominators):
        return None
    return Spread.of([a / b for a, b in zip(numerators, denominators, strict=True)])


def _hours(outcome: Outcome, devices: int, *, loaded: bool) -> list[float]:
    """Return the hours by each round, with or without waiting for the loader."""
    shares = [part.share for part in outcome.parts]
    row = outcome.row
    found = []
    for steps, loader in zip(outcome.steps, outcome.loader, strict=True):
        rates = _step_rates(steps)
        if loaded:
            rates = [min(s, r) if r else s for s, r in zip(rates, loader, strict=True)]
        found.append(hours(shares, rates, images=row.epochs * row.images, devices=devices))
    return found


def _step_rates(steps: Sequence[Timed]) -> list[float]:
    return [times.images_per_second for times in steps]


def _mean_rate(shares: Sequence[float], rates: Sequence[float]) -> float:
    """Return pictures a second over all sizes."""
    return 1 / sum(share / rate for share, rate in zip(shares, rates, strict=True))

"""What several seeds say together: means with their standard errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import mean, stdev

from compound.compare.rows import pairs
from compound.compare.scores import Trained


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean, its standard error (None of a single value), and of how many values it is."""

    mean: float
    error: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate | None":
        """Return the estimate of some values, None of none."""
        if not values:
            return None
        error = stdev(values) / sqrt(len(values)) if len(values) > 1 else None
        return cls(mean(values), error, len(values))


@dataclass(frozen=True, slots=True)
class Learnt:
    """What the seeds of a row say.

    Attributes:
        row: its name.
        score: at the end.
        minutes: until the last score.
        minutes_to_target: of the seeds that reached it; None if none did.
        score_at_equal_time: when the fastest row of the same seed had ended.
        failure: why there is nothing, or less than asked for.
    """

    row: str
    score: Estimate | None
    minutes: Estimate | None
    minutes_to_target: Estimate | None
    score_at_equal_time: Estimate | None
    failure: str | None


@dataclass(frozen=True, slots=True)
class SpeedUp:
    """How many times faster a row's training was than its baseline's with the same seed."""

    row: str
    baseline: str
    ratio: Estimate | None


def learnt(results: Sequence[Trained], *, target: float) -> list[Learnt]:
    """Return what was learnt, row by row."""
    shortest: dict[int, float] = {}
    for result in results:
        for seed, curve in result.curves.items():
            shortest[seed] = min(curve.minutes[-1], shortest.get(seed, curve.minutes[-1]))
    found = []
    for result in results:
        curves = result.curves
        reached = [curve.reached(target) for curve in curves.values()]
        equal = [curve.at(shortest[seed]) for seed, curve in curves.items()]
        found.append(
            Learnt(
                row=result.row.name,
                score=Estimate.of([curve.scores[-1] for curve in curves.values()]),
                minutes=Estimate.of([curve.minutes[-1] for curve in curves.values()]),
                minutes_to_target=Estimate.of([m for m in reached if m is not None]),
                score_at_equal_time=Estimate.of([s for s in equal if s is not None]),
                failure=result.failure,
            )
        )
    return found


def speed_ups(results: Sequence[Trained]) -> list[SpeedUp]:
    """Return how rows compare with their baselines, over the seeds that both have."""
    curves = {result.row.name: result.curves for result in results}
    found = []
    for row, baseline in pairs([result.row for result in results]):
        mine, other = curves[row.name], curves[baseline.name]
        quotients = [other[s].minutes[-1] / mine[s].minutes[-1] for s in mine if s in other]
        found.append(SpeedUp(row.name, baseline.name, Estimate.of(quotients)))
    return found

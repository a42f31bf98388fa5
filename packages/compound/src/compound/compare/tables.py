"""What a comparison found, as tables for the terminal, the page and W&B."""

from collections.abc import Sequence

from compound.compare.contest import Row
from compound.compare.projection import Projection, Ratio, Spread
from compound.compare.seeds import Estimate, Learnt, SpeedUp
from compound.compare.throughput import Outcome
from compound.report.page import Table

SPEED = (
    "row", "network", "recipe", "pixels", "batch", "forward ms", "backward ms", "optimizer ms",
    "images/s", "loader images/s", "peak GiB",
)  # fmt: skip
TIME = ("row", "hours", "least to most", "steps alone", "paper's hours", "paper's top-1")


def throughput_tables(
    outcomes: Sequence[Outcome],
    projections: Sequence[Projection | None],
    found: Sequence[Ratio],
    *,
    title: str,
    devices: int,
) -> list[Table]:
    """Return the speed of each row, its hours beside the paper's, and the ratios of rows.

    Args:
        outcomes: the rows.
        projections: of each; None where it failed.
        found: how they compare.
        title: where it was measured.
        devices: how many the hours are projected for.
    """
    both = list(zip(outcomes, projections, strict=True))
    tables = [
        Table(
            f"Training steps, {title}",
            SPEED,
            tuple(_speed(o, projection) for o, projection in both),
        ),
        Table(
            f"Training time, projected for {devices} device{'s' * (devices > 1)}",
            TIME,
            tuple(_time(outcome.row, projection) for outcome, projection in both),
        ),
    ]
    if found:
        tables.append(_ratio_table(found))
    inference = [outcome for outcome in outcomes if outcome.row.paper_images_per_second]
    if inference:
        tables.append(_inference_table(inference, found))
    return [*tables, *_failures([(outcome.row.name, outcome.failure) for outcome in outcomes])]


def _failures(reasons: Sequence[tuple[str, str | None]]) -> list[Table]:
    rows = tuple((name, reason) for name, reason in reasons if reason is not None)
    return [Table("Failed", ("row", "why"), rows)] if rows else []


def _speed(outcome: Outcome, projection: Projection | None) -> tuple[str, ...]:
    row = outcome.row
    sizes = " ".join(str(part.size) for part in outcome.parts)
    head = (row.name, row.model, row.recipe, sizes, str(row.batch_size))
    if projection is None:
        return (*head, *[""] * 6)
    phases = (projection.forward, projection.backward, projection.optimizer)
    return (
        *head,
        *(f"{1000 * seconds:.1f}" for seconds in phases),
        f"{projection.images_per_second:.1f}",
        _number(projection.loader_images_per_second, ".1f"),
        f"{projection.peak_gib:.2f}",
    )


def _time(row: Row, projection: Projection | None) -> tuple[str, ...]:
    paper = (_number(row.paper_hours, "g"), _number(row.top1, ".1f"))
    if projection is None:
        return (row.name, "", "", "", *paper)
    spread = projection.hours
    return (
        row.name,
        f"{spread.median:.4g}",
        f"{spread.least:.4g} to {spread.most:.4g}",
        f"{projection.step_hours.median:.4g}",
        *paper,
    )


def _ratio_table(found: Sequence[Ratio]) -> Table:
    rows = [
        (ratio.row, ratio.baseline, _spread(ratio.training), _spread(ratio.steps),
         _number(ratio.paper_training, ".1f", "x"))
        for ratio in found
    ]  # fmt: skip
    columns = ("row", "against", "training faster by", "steps alone", "paper")
    return Table("How many times faster", columns, tuple(rows))


def _inference_table(outcomes: Sequence[Outcome], found: Sequence[Ratio]) -> Table:
    rows = []
    for outcome in outcomes:
        rates = Spread.of(outcome.inference) if outcome.inference else None
        mine = [ratio for ratio in found if ratio.row == outcome.row.name]
        for ratio in mine or [None]:
            rows.append(
                (
                    outcome.row.name,
                    _number(rates and rates.median, ".1f"),
                    _number(outcome.row.paper_images_per_second, "g"),
                    ratio.baseline if ratio else "",
                    _spread(ratio and ratio.inference),
                    _number(ratio and ratio.paper_inference, ".1f", "x"),
                )
            )
    columns = ("row", "images/s", "paper's images/s", "against", "faster by", "paper")
    return Table("Inference", columns, tuple(rows))


def training_tables(
    results: Sequence[Learnt], ratios: Sequence[SpeedUp], *, metric: str, target: float, seeds: int
) -> list[Table]:
    """Return scores and times of each row, and the ratios of rows; means and standard errors."""
    rows = [
        (
            result.row,
            str(result.score.count if result.score else 0),
            _estimate(result.score, ".4f"),
            _estimate(result.minutes, ".2f"),
            _to_target(result),
            _estimate(result.score_at_equal_time, ".4f"),
        )
        for result in results
    ]
    columns = ("row", "seeds", metric, "minutes", f"minutes to {target:g}",
               "at equal time")  # fmt: skip
    tables = [Table(f"Trained with {seeds} seeds, mean +- standard error", columns, tuple(rows))]
    if ratios:
        lines = tuple((r.row, r.baseline, _estimate(r.ratio, ".2f", "x")) for r in ratios)
        tables.append(Table("How many times faster", ("row", "against", "training"), lines))
    return [*tables, *_failures([(result.row, result.failure) for result in results])]


def _to_target(result: Learnt) -> str:
    if result.score is None:
        return ""
    if result.minutes_to_target is None:
        return "never"
    count, seeds = result.minutes_to_target.count, result.score.count
    part = "" if count == seeds else f" ({count} of {seeds})"
    return _estimate(result.minutes_to_target, ".2f") + part


def _estimate(estimate: Estimate | None, form: str, unit: str = "") -> str:
    if estimate is None:
        return ""
    text = _number(estimate.mean, form, unit)
    return text if estimate.error is None else f"{text} +- {estimate.error:{form}}"


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return ""
    return f"{spread.median:.2f}x ({spread.least:.2f} to {spread.most:.2f})"


def _number(value: float | None, form: str, unit: str = "") -> str:
    return "" if value is None else f"{value:{form}}{unit}"

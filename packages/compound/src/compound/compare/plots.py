"""What a comparison found, as pictures."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from compound.compare.projection import Projection
from compound.compare.scores import Trained
from compound.compare.throughput import Outcome
from compound.report.charts import new_figure, plain


def plot_accuracy(
    outcomes: Sequence[Outcome], projections: Sequence[Projection | None]
) -> Figure | None:
    """Draw the paper's accuracy against its hours, and against those projected from here.

    Returns:
        The figure, None if no row has an accuracy.
    """
    figure, axes = new_figure()
    both = zip(outcomes, projections, strict=True)
    measured = [
        (p.hours.median, o.row.top1, o.row.name) for o, p in both if p and o.row.top1 is not None
    ]
    published = [
        (o.row.paper_hours, o.row.top1, o.row.name)
        for o in outcomes
        if o.row.paper_hours is not None and o.row.top1 is not None
    ]
    for points, mark, label in ((measured, "o", "projected"), (published, "x", "paper")):
        if points:
            axes.scatter([p[0] for p in points], [p[1] for p in points], marker=mark, label=label)
        for hours, top1, name in points:
            axes.annotate(plain(name), (hours, top1), (4, 4), textcoords="offset points")
    axes.set(xscale="log", xlabel="training time in hours", ylabel="the paper's top-1 in %")
    if not (measured or published):
        return None
    axes.margins(x=0.15)  # for the names
    axes.legend(frameon=False)
    return figure


def plot_throughput(outcomes: Sequence[Outcome]) -> Figure | None:
    """Draw the pictures a second of training steps against the size, a line a row.

    Returns:
        The figure, None if no row was measured.
    """
    figure, axes = new_figure()
    for outcome in outcomes:
        if outcome.failure is None:
            sizes = [part.size for part in outcome.parts]
            # One line a row through the rounds' means at each size.
            rates = [
                sum(times.images_per_second for times in part) / len(part)
                for part in zip(*outcome.steps, strict=True)
            ]
            axes.plot(sizes, rates, marker="o", label=plain(outcome.row.name))
    axes.set(xlabel="side of the pictures in pixels", ylabel="images/s of training steps")
    if not axes.lines:
        return None
    axes.margins(y=0.1)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def plot_scores(results: Sequence[Trained], *, metric: str, target: float) -> Figure:
    """Draw the score of every seed against the time, a colour a row."""
    figure, axes = new_figure()
    for number, result in enumerate(results):
        for i, curve in enumerate(result.curves.values()):
            label = plain(result.row.name) if i == 0 else None
            axes.plot(curve.minutes, curve.scores, f"C{number % 10}.-", label=label)
    axes.axhline(target, color="0.7", linestyle=":")
    axes.set(xlabel="minutes", ylabel=plain(metric))
    if any(result.curves for result in results):
        axes.legend(frameon=False)
    return figure

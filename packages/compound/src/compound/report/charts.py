"""Charts in the look of a page, as SVG whose text and lines take the page's colours."""

import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from compound.report.calibration import Calibration

# Stands for the page's own colour of text until the SVG is written.
_INK = "#010203"
COLOURS = ("#2f7fa8", "#d9792b", "#3f9d6a", "#b65a9c", "#8a7bd1", "#c9a227", "#6b7780", "#c8413b")
_LOOK: dict[Any, Any] = {
    "font.size": 9,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "",  # the same chart has the same text
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def new_figure(*, wide: bool = False) -> tuple[Figure, Axes]:
    """Return an empty figure in the page's look, half as wide as the page or as wide."""
    with rc_context(_LOOK):
        figure = Figure((9.6, 3.0) if wide else (4.8, 3.0), layout="constrained")
        axes = figure.subplots()
        axes.set_prop_cycle(color=COLOURS)
        axes.grid(color="#8888", linewidth=0.4)
    return figure, axes


def svg_of(figure: Figure) -> str:
    """Return a figure as SVG to be put into a page."""
    text = io.StringIO()
    with rc_context(_LOOK):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    # Names of groups, which would not be unique in a page of several charts.
    return re.sub(
        r'<g id="[^"]*"', "<g", re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.S)
    )


def plain(text: str) -> str:
    """Return text that is not taken for mathematics, nor left out of a legend."""
    return text.replace("$", r"\$").lstrip("_") or "-"


def lines(
    curves: Sequence[tuple[str, Sequence[float] | np.ndarray, Sequence[float] | np.ndarray]],
    *,
    x: str,
    y: str,
    bottom: float | None = None,
    top: float | None = None,
    marks: str = "",
) -> str:
    """Return an SVG of curves, each a name and its x and y values.

    Args:
        curves: what is drawn; an empty name has no place in the legend.
        x: label of the axis.
        y: label of the axis.
        bottom: of the y axis; None is where the data are.
        top: the same.
        marks: of matplotlib, such as ``.`` for a dot at each value.
    """
    figure, axes = new_figure()
    with rc_context(_LOOK):
        for name, xs, ys in curves:
            label = plain(name) if name else None
            axes.plot(xs, ys, label=label, linewidth=1.5, marker=marks)
        axes.set(xlabel=x, ylabel=y)
        axes.set_ylim(bottom=bottom, top=top)
        if any(name for name, _, _ in curves):
            axes.legend(fontsize=8)
    return svg_of(figure)


def bars(names: Sequence[str], values: Sequence[float], *, x: str) -> str:
    """Return an SVG of one lying bar a name, the first on top."""
    figure, axes = new_figure()
    with rc_context(_LOOK):
        axes.barh([plain(name) for name in names], values, color=COLOURS[0])
        axes.invert_yaxis()
        axes.set(xlabel=x)
    return svg_of(figure)


def reliability(calibration: Calibration) -> str:
    """Return an SVG of how often predictions of a score are right, beside how often they should."""
    figure, axes = new_figure()
    with rc_context(_LOOK):
        edges = calibration.edges
        axes.bar(edges[:-1], calibration.right, np.diff(edges), align="edge", color=COLOURS[0],
                 alpha=0.75, label="right")  # fmt: skip
        axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.8, linestyle=":", label="as scored")
        axes.set(xlabel="score", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
        axes.legend(fontsize=8)
    return svg_of(figure)

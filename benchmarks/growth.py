"""How time and memory grow, ours and the peer's.

``uv run benchmarks/growth.py`` takes a training step of D0 (256 x 256, 2 pictures with 8 objects,
90 classes) against effdet's, and changes one of these at a time; and it opens annotation files of
more and more pictures, against pycocotools. Each figure is of a process of its own. It writes
``results/growth.json``, ``docs/growth.md`` and ``docs/growth.png``; the exponent is the slope of a
straight line through the logarithms, 1 where twice as much takes twice as long.
"""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

# Before torch: as the tools have it, for us and for the peers alike.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

import numpy as np
import provenance
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from peers import annotations, training_step
from peers.training_step import Case

RESULT = provenance.RESULTS / "growth.json"
PAGE = provenance.ROOT / "docs/growth.md"
PLOT = provenance.ROOT / "docs/growth.png"

BASE = Case(size=256, batch=2)
# Title, the attribute of a `Case`, its values.
AXES = (
    ("side in pixels", "size", (128, 256, 384, 512)),
    ("pictures a step", "batch", (1, 2, 4, 8)),
    ("objects a picture", "boxes", (1, 10, 100, 400)),
    ("classes", "classes", (1, 10, 90, 365)),
)
PICTURES = (11_800, 35_400, 118_000)
COLOURS = {"ours": "tab:blue", "ours, cached": "tab:cyan", "peer": "tab:orange"}


@dataclass(frozen=True, slots=True)
class Line:
    """One way along one axis.

    Attributes:
        axis: what grows.
        who: ``ours`` or another key of `COLOURS`.
        values: how large it is.
        seconds: what one step, or opening the file once, takes.
        gibibytes: memory at the peak of a step, or held once the file is open.
    """

    axis: str
    who: str
    values: tuple[int, ...]
    seconds: list[float]
    gibibytes: list[float]

    def exponents(self) -> tuple[float, float]:
        """Return those of time and memory."""
        time, memory = (
            float(np.polyfit(np.log(self.values), np.log(measured), 1)[0])
            for measured in (self.seconds, self.gibibytes)
        )
        return time, memory


def main() -> None:
    """Measure, keep the result, write the page and draw."""
    commit = provenance.commit()
    lines = []
    for line in (*_steps(), *_openings()):
        print(*_row(line), sep=" | ", flush=True)
        lines.append(line)
    told = {"growth": "uv run benchmarks/growth.py"}
    found = {"lines": [asdict(line) | {"exponents": line.exponents()} for line in lines]}
    result = provenance.keep(RESULT, told, found, peers=("effdet",), at=commit)
    PAGE.write_text(_page(result, lines))
    _draw(lines)


def _steps() -> Iterator[Line]:
    for title, attribute, values in AXES:
        measured: dict[str, list[dict[str, float]]] = {"ours": [], "effdet": []}
        for value in values:
            case = replace(BASE, **{attribute: value})  # pyright: ignore[reportArgumentType]  a number
            for who, found in measured.items():
                found.append(training_step.alone(who, case, "cpu"))
        for who, found in measured.items():
            seconds, gibibytes = [f["ms"] / 1000 for f in found], [f["gib"] for f in found]
            yield Line(title, "ours" if who == "ours" else "peer", values, seconds, gibibytes)


def _openings() -> Iterator[Line]:
    found = [annotations.open_in_turns(count, rounds=1) for count in PICTURES]
    for who, ways in zip(("ours", "ours, cached", "peer"), zip(*found, strict=True), strict=True):
        seconds = [opened[0]["s"] for opened in ways]
        held = [opened[0]["held"] * 1e6 / 2**30 for opened in ways]
        yield Line("pictures in the set", who, PICTURES, seconds, held)


def _row(line: Line) -> tuple[str, ...]:
    times = ", ".join(f"{seconds:.3g}" for seconds in line.seconds)
    memory = ", ".join(f"{gibibytes:.2g}" for gibibytes in line.gibibytes)
    time_exponent, memory_exponent = line.exponents()
    values = ", ".join(f"{value:,}" for value in line.values)
    return (
        line.axis, values, line.who, times, f"{time_exponent:.2f}",
        memory, f"{memory_exponent:.2f}",
    )  # fmt: skip


def _page(result: dict[str, Any], lines: list[Line]) -> str:
    columns = ("what grows", "values", "who", "seconds", "exponent", "GiB", "exponent")
    return "\n".join([
        "# How the cost grows", "",
        f"Written by `uv run benchmarks/growth.py` on {result['machine']}, torch "
        f"{result['versions']['torch']}; [all measurements](../benchmarks/results/growth.json).",
        "", "A training step of D0 in 32 bits, at 256 x 256 with 2 pictures a step, 8 objects a "
        "picture and 90 classes but for what grows, against effdet 0.4's `DetBenchTrain`; its "
        "memory is what network, batches and steps take at their peak. Opening an annotation "
        "file, against pycocotools; its memory is what is held afterwards. The exponent is the "
        "slope of the logarithms.", "",
        *provenance.table(columns, map(_row, lines)), "",
        "![time and memory against what grows](growth.png)", "",
    ])  # fmt: skip


def _draw(lines: list[Line]) -> None:
    titles = list(dict.fromkeys(line.axis for line in lines))
    figure = Figure((3 * len(titles), 5.5), layout="constrained")
    grid = figure.subplots(2, len(titles), squeeze=False)
    for column, title in zip(grid.T, titles, strict=True):
        for line in (line for line in lines if line.axis == title):
            for axes, measured in zip(column, (line.seconds, line.gibibytes), strict=True):
                axes.plot(
                    line.values, measured, marker="o", color=COLOURS[line.who], label=line.who
                )
        values = next(line.values for line in lines if line.axis == title)
        for axes, unit in zip(column, ("seconds", "GiB"), strict=True):
            axes.set(xscale="log", yscale="log", xlabel=title, ylabel=unit)
            axes.set_xticks(values, [f"{value:,}" for value in values])
            axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
            axes.yaxis.set_major_formatter("{x:.2g}")
            low, high = axes.get_ylim()
            axes.yaxis.set_minor_formatter("{x:.2g}" if high < 10 * low else NullFormatter())
            axes.tick_params(axis="y", which="minor", labelsize="x-small")
            axes.legend(fontsize="small")
    figure.savefig(PLOT, dpi=90)


if __name__ == "__main__":
    main()

"""How a run went, out of what it wrote into its folder: curves, timing, configuration."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from compound.report.charts import lines
from compound.report.page import Chart, Details, Numbers, Part, Section

# Curves of one name beyond these, such as the rates of many groups, would hide each other.
MOST_CURVES = 6
# What `compound.tracking.monitor` logs.
TRAIN_SECONDS, VAL_SECONDS = "speed/train_seconds", "speed/val_seconds"
SPEED, MEMORY = "speed/images_per_second", "memory/peak_gib"
TITLES = {
    SPEED: "Images a second",
    MEMORY: "Peak memory, GiB",
    "optim/grad_norm": "Norm of the gradients",
}
# A column's values and the steps at which they were taken.
Column = tuple[np.ndarray, np.ndarray]


def read_metrics(path: Path) -> dict[str, Column]:
    """Return the columns of a ``metrics.csv``, without their empty cells.

    The last line may be half written.
    """
    if not path.is_file():
        return {}
    found: dict[str, tuple[list[float], list[float]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            step = _number(row.pop("step", None))
            for name, cell in row.items():
                value = _number(cell)
                if step is not None and value is not None and isinstance(name, str):
                    steps, values = found.setdefault(name, ([], []))
                    steps.append(step)
                    values.append(value)
    return {name: (np.array(steps), np.array(values)) for name, (steps, values) in found.items()}


def _number(cell: object) -> float | None:
    try:
        return float(cell) if isinstance(cell, str) else None
    except ValueError:
        return None


def training_section(metrics: Mapping[str, Column]) -> Section:
    """Return time and curves: losses, scores, and whatever else was logged while training."""
    columns = {name: column for name, column in metrics.items() if "/" in name}
    losses = [name for name in columns if "loss" in name]
    scores = [name for name in columns if name.startswith("val/") and name not in losses]
    main = [n for n in scores if n.removeprefix("val/") in ("mAP", "AP50", "AP75", "top1", "top5")]
    parts: list[Part] = [_timing(metrics)]
    for title, names in (("Loss", losses), ("Score", main or scores)):
        parts += _chart(title, names, columns)
    shown = ("val/", "test/", TRAIN_SECONDS, VAL_SECONDS)
    others = [name for name in columns if name not in losses and not name.startswith(shown)]
    for title in dict.fromkeys(map(_family, others)):
        parts += _chart(title, [name for name in others if _family(name) == title], columns)
    return Section("Training", parts)


def _family(name: str) -> str:
    """Return what the curves of one chart share: rates of all groups are one family."""
    return "Learning rate" if name.startswith("optim/lr") else TITLES.get(name, name)


def _chart(title: str, names: Sequence[str], columns: Mapping[str, Column]) -> list[Part]:
    if not names:
        return []
    shown = names[:MOST_CURVES]
    curves = [(name if len(names) > 1 else "", *columns[name]) for name in shown]
    marks = "." if max(len(columns[name][0]) for name in shown) < 40 else ""
    left = len(names) - len(shown)
    note = f"{left} more are in metrics.csv." if left else ""
    return [Chart(title, lines(curves, x="step", y="", marks=marks), note)]


def _timing(metrics: Mapping[str, Column]) -> Numbers:
    """Return how long it took, and at what speed and memory, as far as it was logged."""
    kept = {name: values for name, (_, values) in metrics.items()}
    values = []
    for name, label in ((TRAIN_SECONDS, "training"), (VAL_SECONDS, "validation")):
        if name in kept:
            values.append((f"{label}, {len(kept[name])} epochs", _minutes(kept[name].sum())))
    if SPEED in kept:
        values.append(("images/s, median", f"{np.median(kept[SPEED]):,.1f}"))
    if MEMORY in kept:
        values.append(("peak memory", f"{kept[MEMORY].max():.2f} GiB"))
    return Numbers(values)


def _minutes(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def making_section(config: str, machine: Mapping[str, object]) -> Section:
    """Return with what it was made: configuration and environment."""
    versions = machine.get("versions", {})
    assert isinstance(versions, Mapping)
    values = [(key, str(value)) for key, value in machine.items() if key != "versions"]
    values += [(package, str(number)) for package, number in versions.items()]
    parts: list[Part] = [Numbers(values)]
    if config:
        parts.append(Details("Configuration", config))
    return Section("How it was made", parts)

"""What the check of any data set shows on its page."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from compound.doctor.duplicates import Duplicates, Name
from compound.doctor.findings import Finding, Severity, line
from compound.report.charts import new_figure, plain, svg_of
from compound.report.page import Chart, Details, Gallery, Part, Section, Table, Text, Tone, shot

# Pairs of pictures that are shown, and of what size.
SHOWN_PAIRS, PAIR_SIDE = 12, 240
# Places of a finding that stand beside it, and that are shown at all; doctor.json has them all.
FEW_PLACES, SHOWN_PLACES = 3, 200
_TONES: dict[Severity, Tone] = {"error": "bad", "warning": "warn", "hint": "plain"}
# How much more frequent the most frequent class is where a chart becomes logarithmic.
LOG_RATIO = 30
# Classes that a chart has names for.
NAMED_CLASSES = 40


def findings_section(findings: Sequence[Finding]) -> Section:
    """Return what was found, with the way out of each."""
    if not findings:
        return Section("Findings", [Text("Nothing that would harm a training.", "good")])
    parts: list[Part] = []
    for finding in findings:
        told, few = f"{finding.severity}: {line(finding, most=0)}", finding.total <= FEW_PLACES
        if few and finding.places:
            told += f": {'; '.join(finding.places)}"
        parts.append(Text(told, _TONES[finding.severity]))
        if not few and finding.places:
            places = "\n".join(finding.shown(SHOWN_PLACES))
            parts.append(Details(f"where ({finding.total})", places))
    return Section("Findings", parts)


def classes_section(
    counts: Mapping[str, np.ndarray], class_names: Sequence[str], *, things: str
) -> Section:
    """Return how often each class occurs.

    Args:
        counts: ``(K,)`` for each split.
        class_names: in the order of the labels.
        things: what is counted, such as objects.
    """
    order = np.argsort(-next(iter(counts.values())), kind="stable")
    rows = [
        [class_names[k], *(str(of_split[k]) for of_split in counts.values())]
        for k in order.tolist()
    ]
    chart = Chart(f"{things.capitalize()} of each class", _bars(counts, class_names, order))
    return Section("Classes", [chart, Table("", ["class", *counts], rows)])


def _bars(counts: Mapping[str, np.ndarray], class_names: Sequence[str], order: np.ndarray) -> str:
    figure, axes = new_figure(wide=True)
    ink = axes.xaxis.label.get_color()
    places = np.arange(len(order))
    for i, (split, of_split) in enumerate(counts.items()):
        width = 0.8 / len(counts)
        axes.bar(places + (i + 0.5) * width - 0.4, of_split[order], width, label=split)
    if len(order) <= NAMED_CLASSES:
        names = [plain(class_names[int(k)]) for k in order]
        axes.set_xticks(places, names, rotation=60, ha="right")
        axes.tick_params(colors=ink)
    else:
        axes.set_xlabel("classes, the most frequent first")
    together = np.concatenate(list(counts.values())).astype(np.float64)
    if together.max(initial=0) > LOG_RATIO * together[together > 0].min(initial=np.inf):
        axes.set_yscale("log")
    axes.legend(fontsize=8, labelcolor=ink, frameon=False)
    return svg_of(figure)


def duplicates_section(
    found: Duplicates, name: Name, pixels: Callable[[str, int], np.ndarray]
) -> Section:
    """Return some pairs of pictures that look alike, those across splits first.

    Args:
        found: the pairs.
        name: names a picture.
        pixels: reads one, ``(H, W, 3)`` uint8 RGB.
    """
    pairs = found.pairs()
    if not pairs:
        return Section("Duplicates", [])
    shots = [
        shot(pixels(*place), f"pair {i}: {name(*place)}", side=PAIR_SIDE)
        for i, pair in enumerate(pairs[:SHOWN_PAIRS], 1)
        for place in pair
    ]
    note = f"The first {min(len(pairs), SHOWN_PAIRS)} of {len(pairs)} pairs."
    return Section("Duplicates", [Gallery("Pictures that look alike", shots, note=note)])

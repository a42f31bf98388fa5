"""Measures how well anchors fit the boxes of a data set, and looks for better ones."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from compound.doctor.diagnosis import Options
from compound.doctor.findings import Finding
from compound.report.charts import COLOURS, new_figure, svg_of
from compound.report.page import Chart, Section, Table, Text
from efficientdet.data.dataset import Crowd
from efficientdet.data.index import AnnotationIndex
from efficientdet.doctor.boxes import as_seen
from efficientdet.doctor.coverage import AnchorShapes, Coverage, best_iou, by_size, small_finding
from efficientdet.doctor.evolution import propose
from efficientdet.specs import DetSpec

# What the proposal must gain in recall to be worth a word: an anchor that overlaps enough already
# gains nothing by overlapping more.
WORTH = 0.02
# Recall of the present anchors below which they hardly fit at all.
POOR = 0.5
# Of a split's boxes, by its name: how the present anchors fit, and how the proposed ones would.
Fits = Mapping[str, tuple[Mapping[str, Coverage], Mapping[str, Coverage]]]


class AnchorFit(NamedTuple):
    """What was found; nothing where the training has no objects.

    Attributes:
        findings: small boxes, and better anchors if there are any.
        facts: both anchors and how they fit, as plain values.
        sections: of the page.
        files: ``anchors.yaml``.
    """

    findings: list[Finding]
    facts: dict[str, Any]
    sections: list[Section]
    files: dict[str, str]


def fit_anchors(
    splits: Mapping[str, AnnotationIndex],
    spec: DetSpec,
    size: tuple[int, int],
    options: Options,
    *,
    crowd: Crowd = "skip",
) -> AnchorFit:
    """Measure a detector's anchors, and propose others that fit the training's boxes."""
    chosen = {split: ~index.crowd | (crowd == "train") for split, index in splits.items()}
    splits = {split: index for split, index in splits.items() if chosen[split].any()}
    if "train" not in splits:
        return AnchorFit([], {}, [], {})
    boxes = {split: as_seen(index, size)[chosen[split]] for split, index in splits.items()}
    where: dict[str, Any] = {"size": size, "levels": spec.levels}
    search = {"generations": options.generations, "seed": options.seed}
    present, train = AnchorShapes.of(spec), boxes["train"]
    proposed = propose(train, present, **search, **where)

    def fit(split: str, shapes: AnchorShapes) -> dict[str, Coverage]:
        areas = splits[split].areas[chosen[split]]
        return by_size(best_iou(boxes[split], shapes, **where), areas)

    fits = {split: (fit(split, present), fit(split, proposed)) for split in splits}
    now, then = fits["train"]
    better = proposal_finding(now["all"], then["all"], proposed)
    worth, stride = better is not None, 2**spec.min_level
    return AnchorFit(
        small_finding("train", train, present, **where) + ([better] if better else []),
        {
            "anchors": {"present": to_dict(present), "proposed": to_dict(proposed)},
            "coverage": {split: _plain(*both) for split, both in fits.items()},
        },
        [anchors_section(train, fits, present, proposed, worth=worth, stride=stride)],
        {"anchors.yaml": to_yaml(proposed, size=size, now=now, then=then)},
    )


def _plain(before: Mapping[str, Coverage], after: Mapping[str, Coverage]) -> dict[str, Any]:
    return {
        name: {size: coverage._asdict() for size, coverage in fit.items()}
        for name, fit in (("present", before), ("proposed", after))
    }


def proposal_finding(now: Coverage, then: Coverage, shapes: AnchorShapes) -> Finding | None:
    """Return that other anchors would fit the training's boxes, if they would."""
    if then.recall - now.recall < WORTH:
        return None
    return Finding(
        "warning" if now.recall < POOR else "hint",
        "anchors",
        f"train: anchors overlap {now.recall:.1%} of the boxes by 0.5 or more; others would "
        f"overlap {then.recall:.1%} (mean IoU {now.mean_iou:.2f}, then {then.mean_iou:.2f})",
        f"train with {overrides(shapes)}, from weights of the backbone alone: a detector's own "
        "would have to learn its boxes anew",
    )


def overrides(shapes: AnchorShapes) -> str:
    """Return anchors as words of a training's command line."""
    return " ".join(f"'model.{key}={value}'" for key, value in _values(shapes).items())


def to_yaml(
    shapes: AnchorShapes,
    *,
    size: tuple[int, int],
    now: Mapping[str, Coverage],
    then: Mapping[str, Coverage],
) -> str:
    """Return anchors for an input of height and width ``size`` as an experiment's file."""
    gains = ", ".join(f"{name} {now[name].recall:.3f} -> {then[name].recall:.3f}" for name in now)
    values = "".join(f"  {key}: {value}\n" for key, value in _values(shapes).items())
    return (
        "# @package _global_\n"
        "# Copied to configs/experiment/anchors.yaml: uv run tools/train.py experiment=anchors,\n"
        "# with another experiment experiment=[<that one>,anchors],\n"
        f"# or at the end of a command line: {overrides(shapes)}\n"
        f"# For model.image_size={in_words(size)}. Best possible recall at IoU 0.5: {gains}.\n"
        f"model:\n{values}"
    )


def to_dict(shapes: AnchorShapes) -> dict[str, Any]:
    """Return plain values, with the keys that ``model`` has."""
    aspects = shapes.aspects if isinstance(shapes.aspects, str) else list(shapes.aspects)
    return {
        "anchor_scale": shapes.scale,
        "aspects": aspects,
        "octaves": list(shapes.octaves),
    }


def _values(shapes: AnchorShapes) -> dict[str, str]:
    return {
        key: in_words(value) if isinstance(value, list) else str(value)
        for key, value in to_dict(shapes).items()
    }


def in_words(values: Sequence[float]) -> str:
    """Return numbers as the command line takes a list."""
    return f"[{','.join(f'{value:g}' for value in values)}]"


def anchors_section(
    boxes: np.ndarray,
    fits: Fits,
    present: AnchorShapes,
    proposed: AnchorShapes,
    *,
    worth: bool,
    stride: float,
) -> Section:
    """Return how well anchors fit; ``stride`` is the first level's in pixels."""
    shown = {"anchors": present}
    if proposed == present:
        text = Text("The network's anchors fit as well as any that were found.", "good")
    else:
        shown["proposed"] = proposed
        urge = "would fit better" if worth else "would fit hardly better"
        tone = "warn" if worth else "good"
        text = Text(f"The anchors in anchors.yaml {urge}: {overrides(proposed)}", tone)
    return Section("Anchors", [_table(fits), text, *_charts(boxes, shown, stride)])


def _table(fits: Fits) -> Table:
    rows = [
        [split, name, str(of.count), f"{of.recall:.3f}", f"{after[name].recall:.3f}",
         f"{of.mean_iou:.3f}", f"{after[name].mean_iou:.3f}"]
        for split, (before, after) in fits.items()
        for name, of in before.items()
    ]  # fmt: skip
    columns = ["split", "size", "boxes", "recall", "recall then", "mean IoU", "mean IoU then"]
    note = (
        "Best possible recall: the share of boxes that an anchor overlaps by 0.5 or more, on whole "
        "pictures at the network's size; then, with the proposed ones. Sizes are COCO's, in "
        "pixels of the files' pictures."
    )
    return Table("", columns, rows, note)


def _charts(boxes: np.ndarray, shown: Mapping[str, AnchorShapes], stride: float) -> list[Chart]:
    sides = boxes[:, 2:] - boxes[:, :2]
    sizes = {name: np.sqrt(of.sides().prod(axis=1)) * stride for name, of in shown.items()}
    aspects = {name: of.sides()[:, 0] / of.sides()[:, 1] for name, of in shown.items()}
    return [
        Chart(
            "Sides of the boxes",
            _histogram(np.sqrt(sides.prod(axis=1)), sizes, "pixels of the network's input"),
            "Lines are the first level's anchors; each next level has them twice as large.",
        ),
        Chart("Widths over heights", _histogram(sides[:, 0] / sides[:, 1], aspects, "ratio")),
    ]


def _histogram(values: np.ndarray, lines: Mapping[str, np.ndarray], x: str) -> str:
    figure, axes = new_figure()
    # Not to the last: one box of a thousand times another's size would be all there is to see.
    low, high = np.quantile(values, (0.001, 0.999))
    axes.hist(values, bins=np.geomspace(low / 1.01, high * 1.01, 50).tolist(), color="#8888")
    for (name, places), colour in zip(lines.items(), COLOURS, strict=False):
        for i, place in enumerate(np.unique(places.round(6))):
            axes.axvline(place, color=colour, linewidth=1, label=name if i == 0 else None)
    axes.set_xscale("log")
    axes.set(xlabel=x, ylabel="boxes")
    axes.legend(fontsize=8, labelcolor=axes.xaxis.label.get_color(), frameon=False)
    return svg_of(figure)

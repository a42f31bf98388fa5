"""What the check of a detection data set shows on its page, besides what all data sets do."""

from collections.abc import Mapping

import numpy as np

from compound.report.charts import COLOURS, new_figure, svg_of
from compound.report.page import Chart, Section, Table, Text
from efficientdet.doctor.coverage import AnchorShapes, Coverage
from efficientdet.doctor.proposal import overrides

# Of a split's boxes, by its name: how the present anchors fit, and how the proposed ones would.
Fits = Mapping[str, tuple[Mapping[str, Coverage], Mapping[str, Coverage]]]


def anchors_section(
    boxes: np.ndarray,
    fits: Fits,
    present: AnchorShapes,
    proposed: AnchorShapes,
    *,
    worth: bool,
    stride: float,
) -> Section:
    """Return how well anchors fit.

    Args:
        boxes: ``(N, 4)`` of the training, in pixels of the network's input.
        fits: by split.
        present: the network's anchors.
        proposed: the ones that would fit better, or the same.
        worth: whether they fit so much better that it is worth a word.
        stride: of the first level, in pixels.
    """
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

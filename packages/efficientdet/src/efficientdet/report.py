"""What stands in a report on a detector."""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from compound.report.charts import bars, lines
from compound.report.page import Box, Chart, Numbers, Part, Section, Shot, Table, Text, share, shot
from compound.report.parts import calibration_part, cells_of, confusion_part, extremes
from efficientdet.data.dataset import Sample, open_picture
from efficientdet.data.index import AnnotationIndex
from efficientdet.evaluation.breakdown import KINDS
from efficientdet.evaluation.curves import ClassRow
from efficientdet.evaluation.detections import DetectionAnalysis, analyse
from efficientdet.evaluation.evaluator import Results
from efficientdet.evaluation.images import PictureBoxes, Pictures

# Curves of more classes would hide each other.
MOST_CURVES = 8
# Boxes of one picture; detectors give a hundred, most of them with scores near 0.
MOST_BOXES = 40
# What the errors are, in the order of KINDS.
MEANINGS = {
    "classification": "right place, wrong class",
    "localisation": "right class, not well enough placed",
    "both": "wrong class and not well placed",
    "duplicate": "an object that was found already",
    "background": "nothing there",
    "missed": "an object that nothing points at",
}


def detector_sections(results: Results, index: AnnotationIndex, *, split: str) -> list[Section]:
    """Return scores, classes, errors, calibration and pictures of one split."""
    found = analyse(index, results)
    return [
        Section(f"At a glance: {split}", [_scores(found), *_remarks(found), _threshold(found)]),
        Section("Classes", _classes(found)),
        Section("Errors", _errors(found)),
        Section("Confidence", _confidence(found)),
        Section("Pictures", _pictures(found, index)),
    ]


def _scores(found: DetectionAnalysis) -> Numbers:
    return Numbers([(name, share(value)) for name, value in found.scores.metrics.items()])


def _remarks(found: DetectionAnalysis) -> list[Part]:
    if not found.num_detections:
        return [
            Text(
                "Nothing was found in any picture. Train longer, or from weights=coco; with a low "
                "task.predict.score_threshold even a beginner finds something.",
                "bad",
            )
        ]
    blind = [row.name for row in found.classes if row.objects and row.ap == 0]
    absent = [row.name for row in found.classes if not row.objects]
    parts: list[Part] = []
    if blind:
        parts.append(Text(f"Of {', '.join(blind[:8])} nothing is found as it should be.", "warn"))
    if absent:
        text = f"{len(absent)} classes have no objects in this split and no score."
        parts.append(Text(text, "warn"))
    return parts


def _threshold(found: DetectionAnalysis) -> Text:
    best = found.thresholds
    return Text(
        f"Detections with a score of {best.best:.2f} or more give the best balance: "
        f"{best.best_precision:.0%} of them are right and {best.best_recall:.0%} of the objects "
        f"are found (IoU 0.5). Confusions and pictures below are at this score."
        if best.best_f1 > 0
        else "No detection is right at IoU 0.5, so no score is better than another."
    )


def _classes(found: DetectionAnalysis) -> list[Part]:
    columns = ("class", "objects", "AP", "AP50", "AP75", "APs", "APm", "APl", "AR")
    rows = [(row.name, str(row.objects), *map(share, _numbers(row))) for row in found.classes]
    curves = found.curves
    mean = [
        ("IoU 0.50", curves.recalls, curves.at50),
        ("IoU 0.75", curves.recalls, curves.at75),
        ("mean of 0.50 to 0.95", curves.recalls, curves.mean),
    ]
    with_objects = [i for i, row in enumerate(found.classes) if row.objects]
    lowest = sorted(with_objects, key=lambda i: found.classes[i].ap50)[:MOST_CURVES]
    each = [(found.classes[i].name, curves.recalls, curves.classes_at50[i]) for i in lowest]
    note = f"The {len(lowest)} with the lowest AP50." if len(with_objects) > len(lowest) else ""
    axes = {"x": "recall", "y": "precision", "bottom": 0.0, "top": 1.02}
    return [
        Table("Each class", columns, rows, "A column's title sorts by it."),
        Chart("Precision over recall, mean of the classes", lines(mean, **axes)),
        Chart("Precision over recall at IoU 0.50", lines(each, **axes), note),
    ]


def _numbers(row: ClassRow) -> Sequence[float]:
    return row.ap, row.ap50, row.ap75, row.ap_small, row.ap_medium, row.ap_large, row.ar


def _errors(found: DetectionAnalysis) -> list[Part]:
    errors = found.breakdown
    rows = [
        (kind, MEANINGS[kind], f"{errors.counts[kind]:,}", share(errors.costs[kind]))
        for kind in KINDS
    ]
    rows += [
        ("all false positives", "as if left out", f"{errors.false_positives:,}",
         share(errors.false_positives_cost)),
        ("all misses", "as if they did not count", f"{errors.false_negatives:,}",
         share(errors.false_negatives_cost)),
    ]  # fmt: skip
    note = (
        "What AP50 gains if an oracle mends errors of that kind and no others (TIDE, "
        "arXiv:2008.08115). Gains do not add up, as mending one kind brings out another."
    )
    names = [row.name for row in found.classes]
    cells = cells_of(found.confusion)
    how = (
        "Rows are what is there, columns what it was taken for, at IoU 0.5 and the score above; "
        "the last row is found where nothing is, the last column was not found."
    )
    costs = [errors.costs[kind] for kind in KINDS]
    return [
        Chart("What each kind of error costs", bars(KINDS, costs, x="AP50 that is lost"), note),
        Table("Errors", ("kind", "meaning", "how many", "costs AP50"), rows),
        confusion_part(cells, [*names, "background"], note=how, always=[len(names)]),
    ]  # fmt: skip


def _confidence(found: DetectionAnalysis) -> list[Part]:
    at = found.thresholds
    curves = [
        ("precision", at.scores, at.precision),
        ("recall", at.scores, at.recall),
        ("F1", at.scores, at.f1),
    ]
    axes = {"x": "least score", "y": "", "bottom": 0.0, "top": 1.02}
    return [
        Chart("What a threshold does", lines(curves, **axes)),
        calibration_part(found.calibration, "detections"),
    ]


def _pictures(found: DetectionAnalysis, index: AnnotationIndex) -> list[Part]:
    threshold = found.pictures.threshold
    return extremes(
        found.pictures.order,
        partial(_shot, found.pictures, index),
        class_names=index.class_names,
        note=f"Counted below the pictures is what has a score of {threshold:.3f} or more.",
        # Rounded up, the slider would hide what just reaches the threshold.
        least=math.floor(100 * threshold) / 100,
    )


def _shot(pictures: Pictures, index: AnnotationIndex, i: int) -> Shot:
    """Return a small picture with its boxes, by its position among those that count."""
    row = int(pictures.rows[i])
    name = str(index.file_names[row])
    caption = (
        f"{name}: {pictures.right[i]} right, {pictures.wrong[i]} wrong, {pictures.missed[i]} missed"
    )
    return shot(open_picture(index, row).whole(), caption, _boxes(pictures.boxes(i)))


def _boxes(picture: PictureBoxes) -> list[Box]:
    """Return what is there and the best of what was found; missed objects stand out."""
    kinds = {"missed": "missed", "found": "truth", "crowd": "truth"}
    truth = [
        Box(tuple(box), label, None, kinds[kind])
        for box, label, kind in zip(
            picture.truth_boxes.tolist(), picture.truth_labels.tolist(), picture.truth_kinds,
            strict=True,
        )
    ]  # fmt: skip
    found = [
        Box(tuple(box), label, score, kind)
        for box, label, score, kind in zip(
            picture.boxes.tolist(), picture.labels.tolist(), picture.scores.tolist(),
            picture.kinds, strict=True,
        )
        if kind != "ignored"
    ]  # fmt: skip
    return truth + found[:MOST_BOXES]


def sample_shot(sample: Sample, index: AnnotationIndex) -> Shot:
    """Return a training picture as the network sees it, with its objects."""
    name = index.file_names[np.searchsorted(index.image_ids, sample.image_id)]
    boxes = [
        Box(tuple(box), label, None, "truth")
        for box, label in zip(sample.boxes.tolist(), sample.labels.tolist(), strict=True)
    ]
    return shot(sample.image, str(name), boxes)

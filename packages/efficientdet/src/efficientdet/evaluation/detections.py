"""Everything that a report says about detections, computed in one go."""

from dataclasses import dataclass

import numpy as np

from compound.report.calibration import Calibration, calibrate
from efficientdet.data.index import AnnotationIndex
from efficientdet.evaluation.breakdown import FOREGROUND, Breakdown, break_down
from efficientdet.evaluation.curves import (
    ClassRow,
    PrecisionRecall,
    Thresholds,
    by_threshold,
    class_rows,
    precision_recall,
)
from efficientdet.evaluation.evaluator import CocoScores, Results
from efficientdet.evaluation.images import Pictures, judge
from efficientdet.evaluation.pairs import Matches, Pairs, match, match_across_classes, pair_up


@dataclass(frozen=True, slots=True, eq=False)
class DetectionAnalysis:
    """What there is to say about the detections of a split with K classes.

    Attributes:
        scores: the twelve numbers and AP of each class, as the evaluation has them.
        classes: a row a class, in order of the labels.
        curves: precision over recall.
        thresholds: precision, recall and F1 by score.
        breakdown: the errors and what they cost.
        confusion: ``(K + 1, K + 1)`` int64, rows are what is there, columns what it was taken
            for, background last; at an IoU of 0.5 and the score ``thresholds.best``.
        calibration: how often detections of a score are right, all that crowd regions do not
            excuse.
        pictures: each picture at the score ``thresholds.best``.
        num_detections: all that counted, whatever their score.
    """

    scores: CocoScores
    classes: tuple[ClassRow, ...]
    curves: PrecisionRecall
    thresholds: Thresholds
    breakdown: Breakdown
    confusion: np.ndarray
    calibration: Calibration
    pictures: Pictures
    num_detections: int


def analyse(index: AnnotationIndex, results: Results) -> DetectionAnalysis:
    """Explain a score by the detections that `CocoEvaluator` gives with it."""
    pairs = pair_up(index, results.rows, results.image_ids, max_detections=results.max_detections)
    matches = match(pairs, min_iou=FOREGROUND)
    thresholds = by_threshold(pairs, matches)
    breakdown = break_down(pairs, matches)
    across = match_across_classes(pairs, min_iou=FOREGROUND)
    counted = ~matches.ignored
    return DetectionAnalysis(
        scores=results.scores,
        classes=class_rows(pairs, results.curves),
        curves=precision_recall(results.curves),
        thresholds=thresholds,
        breakdown=breakdown,
        confusion=confusion_matrix(pairs, across, min_score=thresholds.best),
        calibration=calibrate(pairs.found.scores[counted], matches.right[counted]),
        pictures=judge(pairs, matches, breakdown, threshold=thresholds.best),
        num_detections=len(pairs.found.scores),
    )


def confusion_matrix(pairs: Pairs, matches: Matches, *, min_score: float) -> np.ndarray:
    """Return how often what is there was taken for what ``(K + 1, K + 1)`` int64.

    A row is what is there, a column what it was taken for; the last of either is background. A
    class's row adds up to its objects, its column to its detections, but for those that a crowd
    region excuses. The last cell is 0.

    Args:
        pairs: the detections and objects.
        matches: of `match_across_classes`, at the IoU that is asked for.
        min_score: detections below do not count.
    """
    background = len(pairs.class_names)
    counted = pairs.found.scores >= min_score
    matched = matches.right & counted
    there = np.full(len(counted), background)
    there[matched] = pairs.truth.labels[matches.objects[matched]]
    missed = ~pairs.truth.crowd
    missed[matches.objects[matched]] = False
    used = counted & ~matches.ignored
    labels = pairs.truth.labels[missed]
    rows = np.concatenate((there[used], labels))
    columns = np.concatenate((pairs.found.labels[used], np.full(len(labels), background)))
    size = background + 1
    return np.bincount(rows * size + columns, minlength=size**2).reshape(size, size)

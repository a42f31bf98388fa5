"""Everything that a report says about detections, computed in one go."""

from dataclasses import dataclass

import numpy as np

from compound.report.calibration import Calibration, calibrate
from efficientdet.data.index import AnnotationIndex
from efficientdet.evaluation.breakdown import FOREGROUND, Breakdown, break_down
from efficientdet.evaluation.confusion import confusion_matrix
from efficientdet.evaluation.curves import ClassRow, PrecisionRecall, class_rows, precision_recall
from efficientdet.evaluation.evaluator import CocoEvaluator, CocoScores, EvaluationOptions
from efficientdet.evaluation.images import Pictures, judge
from efficientdet.evaluation.pairs import match, match_across_classes, pair_up
from efficientdet.evaluation.thresholds import Thresholds, by_threshold


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


def analyse(
    index: AnnotationIndex,
    results: np.ndarray,
    image_ids: np.ndarray,
    options: EvaluationOptions | None = None,
) -> DetectionAnalysis:
    """Score results and say what is behind the score.

    Args:
        index: the ground truth.
        results: ``(N, 7)`` image id, x, y, w, h, score, category id, as `CocoEvaluator` gives.
        image_ids: ``(P,)``, pictures that count: all of the index, or those looked at.
        options: how it is scored.
    """
    evaluator = CocoEvaluator(index, options)
    scores, curves = evaluator.curves(results, image_ids)
    most = evaluator.options.max_detections
    pairs = pair_up(index, results, image_ids, max_detections=most)
    matches = match(pairs, min_iou=FOREGROUND)
    thresholds = by_threshold(pairs, matches)
    breakdown = break_down(pairs, matches)
    across = match_across_classes(pairs, min_iou=FOREGROUND)
    counted = ~matches.ignored
    return DetectionAnalysis(
        scores=scores,
        classes=class_rows(pairs, curves),
        curves=precision_recall(curves),
        thresholds=thresholds,
        breakdown=breakdown,
        confusion=confusion_matrix(pairs, across, min_score=thresholds.best),
        calibration=calibrate(pairs.found.scores[counted], matches.right[counted]),
        pictures=judge(pairs, matches, breakdown, threshold=thresholds.best),
        num_detections=len(pairs.found.scores),
    )

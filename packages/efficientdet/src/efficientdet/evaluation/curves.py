"""Precision over recall, the table of classes, and what a threshold of the score does."""

from dataclasses import dataclass

import numpy as np

from efficientdet.evaluation.coco_ap import mean_of
from efficientdet.evaluation.evaluator import CocoCurves
from efficientdet.evaluation.pairs import Matches, Pairs

# COCO's; 0.00 to 1.00.
RECALLS = np.linspace(0, 1, 101)
# Where no detection is right, no threshold is better than another.
DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class PrecisionRecall:
    """Precision at 101 recalls; nan where there are no objects.

    Attributes:
        recalls: ``(101,)`` 0.00 to 1.00.
        at50: ``(101,)`` mean over classes at an IoU of 0.5.
        at75: ``(101,)`` the same at 0.75.
        mean: ``(101,)`` mean over classes and IoU 0.50 to 0.95.
        classes_at50: ``(K, 101)`` of each class at 0.5.
    """

    recalls: np.ndarray
    at50: np.ndarray
    at75: np.ndarray
    mean: np.ndarray
    classes_at50: np.ndarray


@dataclass(frozen=True, slots=True)
class ClassRow:
    """What COCO says of a class; nan where there are no such objects.

    Attributes:
        name: the class.
        objects: how many there are; crowd regions do not count.
        ap: over IoU 0.50 to 0.95.
        ap50: at 0.5.
        ap75: at 0.75.
        ap_small: of objects below 32 x 32 pixels.
        ap_medium: between.
        ap_large: above 96 x 96 pixels.
        ar: recall over IoU 0.50 to 0.95 with all detections that count.
    """

    name: str
    objects: int
    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar: float


@dataclass(frozen=True, slots=True, eq=False)
class Thresholds:
    """Detections of all classes together at an IoU of 0.5, by the score they must have.

    Attributes:
        scores: ``(101,)`` 0.00 to 1.00; detections with at least that score count.
        precision: ``(101,)``; nan where no detection counts.
        recall: ``(101,)``; nan without objects.
        f1: ``(101,)``; nan without objects.
        best: the score with the best F1 of all, not only of those 101; `DEFAULT_THRESHOLD` if
            nothing is right.
        best_precision: precision there.
        best_recall: recall there.
        best_f1: F1 there.
    """

    scores: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    best: float
    best_precision: float
    best_recall: float
    best_f1: float


def precision_recall(curves: CocoCurves) -> PrecisionRecall:
    """Return the curves of all objects, with all detections that count."""
    precision = np.where(curves.precision < 0, np.nan, curves.precision)[..., 0, -1]
    there = ~np.isnan(precision[0, 0])  # a class with objects has them at every IoU

    def mean(values: np.ndarray) -> np.ndarray:
        """Return the mean over IoUs and classes ``(T, 101, K)`` at each recall."""
        if not there.any():
            return np.full(len(RECALLS), np.nan)
        return values[..., there].mean((0, 2))

    return PrecisionRecall(
        recalls=RECALLS,
        at50=mean(precision[:1]),
        at75=mean(precision[5:6]),
        mean=mean(precision),
        classes_at50=precision[0].T,
    )


def class_rows(pairs: Pairs, curves: CocoCurves) -> tuple[ClassRow, ...]:
    """Return the table of classes, in order of the labels."""
    counts = pairs.truth.count(len(pairs.class_names))
    precision = curves.precision[..., -1]
    return tuple(
        ClassRow(
            name=name,
            objects=int(counts[label]),
            ap=mean_of(precision[:, :, label, 0]),
            ap50=mean_of(precision[0, :, label, 0]),
            ap75=mean_of(precision[5, :, label, 0]),
            ap_small=mean_of(precision[:, :, label, 1]),
            ap_medium=mean_of(precision[:, :, label, 2]),
            ap_large=mean_of(precision[:, :, label, 3]),
            ar=mean_of(curves.recall[:, label, 0, -1]),
        )
        for label, name in enumerate(pairs.class_names)
    )


def average_precision(labels: np.ndarray, right: np.ndarray, num_objects: np.ndarray) -> np.ndarray:
    """Return COCO's AP of each class ``(K,)``, the mean of 101 precisions; nan without objects.

    Args:
        labels: ``(N,)`` class of each detection, in order of falling scores.
        right: ``(N,)`` bool.
        num_objects: ``(K,)``.
    """
    order = np.argsort(labels, kind="stable")
    borders = np.searchsorted(labels[order], np.arange(1, len(num_objects)))
    return np.array(
        [
            interpolated(found, int(count)).mean() if count else np.nan
            for found, count in zip(np.split(right[order], borders), num_objects, strict=True)
        ]
    )


def interpolated(right: np.ndarray, num_objects: int) -> np.ndarray:
    """Return the precision at each of `RECALLS` ``(101,)``, 0 where recall does not get.

    The largest from a recall on counts for it.

    Args:
        right: ``(N,)`` bool in order of falling scores.
        num_objects: above 0.
    """
    hits = right.cumsum()
    precision = hits / (np.arange(1, len(right) + 1) + np.spacing(1))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return np.append(envelope, 0.0)[np.searchsorted(hits / num_objects, RECALLS)]


def by_threshold(pairs: Pairs, matches: Matches) -> Thresholds:
    """Return the curves; ``matches`` are those at an IoU of 0.5."""
    counted = ~matches.ignored
    order = np.argsort(-pairs.found.scores[counted], kind="stable")
    falling = pairs.found.scores[counted][order]
    hits = np.append(0, matches.right[counted][order].cumsum())
    num_objects = int((~pairs.truth.crowd).sum())

    def at(scores: np.ndarray) -> np.ndarray:
        """Return precision, recall and F1 ``(3, T)``."""
        kept = np.searchsorted(-falling, -scores, side="right")
        objects = np.full(len(kept), num_objects or np.nan)
        of = np.stack((np.where(kept, kept, np.nan), objects, (kept + objects) / 2))
        return hits[kept] / of

    scores = np.arange(101) / 100
    best = falling[at(falling)[2].argmax()] if hits[-1] else DEFAULT_THRESHOLD
    precision, recall, f1 = at(scores)
    best_precision, best_recall, best_f1 = at(np.array([best]))[:, 0].tolist()
    return Thresholds(
        scores, precision, recall, f1, float(best), best_precision, best_recall, best_f1
    )

"""Curves of precision over recall and the table of classes, out of what COCO computes."""

from dataclasses import dataclass

import numpy as np

from efficientdet.evaluation.coco_ap import mean_of
from efficientdet.evaluation.evaluator import CocoCurves
from efficientdet.evaluation.pairs import Pairs
from efficientdet.evaluation.precision import RECALLS


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

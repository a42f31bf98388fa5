"""What is behind a classifier's score: confusions, classes, calibration, best and worst pictures.

Shapes: N = pictures, K = classes, k = best classes that were kept of a picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compound.report.calibration import Calibration, calibrate

NUM_CONFUSED = 20


@dataclass(frozen=True, slots=True)
class ClassRow:
    """What is said of a class; nan where it is undefined.

    Attributes:
        name: the class.
        count: its pictures.
        predicted: pictures that were taken for it.
        precision: share of ``predicted`` that are of it; nan if there are none.
        recall: share of ``count`` that were taken for it; nan if there are none.
        f1: their harmonic mean; 0 where neither is above 0, nan if there are no pictures at all.
    """

    name: str
    count: int
    predicted: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class Confused:
    """Pictures of one class that were taken for another.

    Attributes:
        truth: label of the class that they are of.
        predicted: label of the class that they were taken for.
        count: how many.
        share: of the class's pictures.
    """

    truth: int
    predicted: int
    count: int
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class ClassAnalysis:
    """What there is to say about a classifier.

    Attributes:
        class_names: K names.
        cells: ``(C, 3)`` int64, the confusion matrix without its empty cells, the fullest first:
            what pictures are of, what they were taken for, how many. All cells of 21,000 classes
            would be gigabytes.
        classes: K rows, in order of the labels.
        top1: share of pictures whose best class is right; nan without pictures.
        top5: share whose class is among the best five; nan if fewer than five were kept.
        mean_recall: mean of the recalls of all classes that have pictures.
        calibration: of the best class's score.
        confused: the pairs most often confused, most first, at most `NUM_CONFUSED`.
        margins: ``(N,)`` score of the right class, 0 where it was not kept, less the best of the
            others': near -1 a picture went badly wrong, near 1 it was no question.
        order: ``(N,)`` int64, the pictures from the worst to the best, by ``margins``.
    """

    class_names: tuple[str, ...]
    cells: np.ndarray
    classes: tuple[ClassRow, ...]
    top1: float
    top5: float
    mean_recall: float
    calibration: Calibration
    confused: tuple[Confused, ...]
    margins: np.ndarray
    order: np.ndarray


def analyse_classes(
    labels: np.ndarray,
    top_labels: np.ndarray,
    top_scores: np.ndarray,
    class_names: Sequence[str],
) -> ClassAnalysis:
    """Return what is behind a classifier's score.

    Args:
        labels: ``(N,)`` int in ``0..K-1``, what the pictures are of.
        top_labels: ``(N, k)`` int, the classes with the best scores, best first.
        top_scores: ``(N, k)`` their scores in 0..1.
        class_names: K names.
    """
    right = top_labels == labels[:, None]
    cells = _cells(labels, top_labels[:, 0], len(class_names))
    classes = _rows(cells, class_names)
    truth_scores = np.where(right, top_scores, 0).sum(1)
    margins = truth_scores - np.where(right, 0, top_scores).max(1, initial=0)
    recalls = [row.recall for row in classes if row.count]
    return ClassAnalysis(
        class_names=tuple(class_names),
        cells=cells,
        classes=classes,
        top1=_mean(right[:, 0]),
        top5=_mean(right[:, :5].any(1)) if right.shape[1] >= 5 else float("nan"),
        mean_recall=_mean(np.array(recalls)),
        calibration=calibrate(top_scores[:, 0], right[:, 0]),
        confused=_most_confused(cells, classes),
        margins=margins,
        order=np.argsort(margins, kind="stable"),
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _cells(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    pairs, counts = np.unique(labels * num_classes + predicted, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return np.column_stack([*np.divmod(pairs, num_classes), counts])[order]


def _rows(cells: np.ndarray, class_names: Sequence[str]) -> tuple[ClassRow, ...]:
    def total(labels: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        sums = np.zeros(len(class_names), np.int64)
        np.add.at(sums, labels, numbers)
        return sums

    truth, taken_for, numbers = cells.T
    right = truth == taken_for
    hits = total(truth[right], numbers[right])
    counts, predicted = total(truth, numbers), total(taken_for, numbers)
    return tuple(
        ClassRow(
            name=name,
            count=int(count),
            predicted=int(taken),
            precision=float(hit / taken) if taken else float("nan"),
            recall=float(hit / count) if count else float("nan"),
            f1=float(2 * hit / (count + taken)) if count + taken else float("nan"),
        )
        for name, hit, count, taken in zip(class_names, hits, counts, predicted, strict=True)
    )


def _most_confused(cells: np.ndarray, classes: Sequence[ClassRow]) -> tuple[Confused, ...]:
    errors = cells[cells[:, 0] != cells[:, 1]][:NUM_CONFUSED]
    return tuple(
        Confused(truth, predicted, count, count / classes[truth].count)
        for truth, predicted, count in errors.tolist()
    )

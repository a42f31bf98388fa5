"""Precision, recall and F1 when only detections above a score count."""

from dataclasses import dataclass

import numpy as np

from efficientdet.evaluation.pairs import Matches, Pairs

# Where no detection is right, no threshold is better than another.
DEFAULT_THRESHOLD = 0.5


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

"""Which classes are taken for which, background included."""

import numpy as np

from efficientdet.evaluation.pairs import Matches, Pairs


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

"""Average precision of detections whose right and wrong is known, as COCO computes it."""

import numpy as np

# COCO's; 0.00 to 1.00.
RECALLS = np.linspace(0, 1, 101)


def average_precision(labels: np.ndarray, right: np.ndarray, num_objects: np.ndarray) -> np.ndarray:
    """Return AP of each class ``(K,)``, the mean of 101 precisions; nan without objects.

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

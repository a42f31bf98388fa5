"""Whether scores are what they say: of predictions scored 0.8, eight in ten should be right."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """A reliability diagram of ``B`` bins and its one number (arXiv:1706.04599, Sec. 2).

    Attributes:
        edges: ``(B + 1,)`` from 0 to 1; a bin has its upper edge, the first also 0.
        mean_scores: ``(B,)``; nan where a bin is empty.
        right: ``(B,)`` share that is right; nan where a bin is empty.
        counts: ``(B,)`` int64.
        error: expected calibration error, the mean distance of the two, weighted by counts; nan
            without scores.
    """

    edges: np.ndarray
    mean_scores: np.ndarray
    right: np.ndarray
    counts: np.ndarray
    error: float


def calibrate(scores: np.ndarray, right: np.ndarray, *, num_bins: int = 10) -> Calibration:
    """Return how often predictions of a score are right.

    Args:
        scores: ``(N,)`` in 0..1; what rounding put outside counts with the nearest bin.
        right: ``(N,)`` bool.
        num_bins: bins of equal width.
    """
    edges = np.linspace(0, 1, num_bins + 1)
    bins = np.searchsorted(edges[1:-1], scores, side="left")
    counts, score_sums, rights = (
        np.bincount(bins, weights, minlength=num_bins) for weights in (None, scores, right)
    )
    # A bin without any is 0 / nan.
    some = np.where(counts > 0, counts, np.nan)
    gaps = np.abs(score_sums - rights)
    error = float(gaps.sum() / len(scores)) if len(scores) else float("nan")
    return Calibration(edges, score_sums / some, rights / some, counts, error)

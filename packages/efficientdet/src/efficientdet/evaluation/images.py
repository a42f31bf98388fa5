"""What is right, wrong and missed in each picture, and which pictures went best and worst."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from efficientdet.evaluation.breakdown import KINDS, Breakdown, ErrorKind
from efficientdet.evaluation.pairs import Matches, Pairs

FoundKind = Literal["right", "wrong", "ignored"]
TruthKind = Literal["found", "missed", "crowd"]


@dataclass(frozen=True, slots=True, eq=False)
class PictureBoxes:
    """The boxes of one picture with ``D`` detections, best first, and ``G`` objects.

    Attributes:
        boxes: ``(D, 4)`` xyxy in the picture's pixels, all that were found.
        labels: ``(D,)``.
        scores: ``(D,)``.
        kinds: D words, right or wrong whatever the score; ``ignored`` lies in a crowd region.
        errors: D kinds of error, None where not wrong.
        truth_boxes: ``(G, 4)`` xyxy.
        truth_labels: ``(G,)``.
        truth_kinds: G words; ``found`` by a detection that reaches the threshold.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    kinds: tuple[FoundKind, ...]
    errors: tuple[ErrorKind | None, ...]
    truth_boxes: np.ndarray
    truth_labels: np.ndarray
    truth_kinds: tuple[TruthKind, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """What was found in ``P`` pictures by detections that reach a threshold, at an IoU of 0.5.

    Attributes:
        threshold: the score that counts.
        image_ids: ``(P,)`` int64, increasing.
        rows: ``(P,)`` int64, positions in the index: ``index.file_names[rows[i]]``.
        right: ``(P,)`` int64 true positives.
        wrong: ``(P,)`` int64 false positives.
        missed: ``(P,)`` int64 objects without a detection.
        quality: ``(P,)`` in 0..1, F1 with detections counted by their scores:
            ``2 r / (objects + r + w)``, r and w being the sums of the scores of right and wrong
            ones. nan if there is nothing to judge: no object and nothing wrong.
        order: ``(Q,)`` int64, positions in ``0..P-1`` from the worst picture to the best, without
            those of quality nan.
        found: ``(G,)`` bool, the objects of all pictures that have a detection.
        kinds: ``(D,)`` int8, the detections' errors as `Breakdown` has them.
        pairs: the detections and objects of all pictures.
        matches: which belong together.
    """

    threshold: float
    image_ids: np.ndarray
    rows: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    missed: np.ndarray
    quality: np.ndarray
    order: np.ndarray
    found: np.ndarray
    kinds: np.ndarray
    pairs: Pairs
    matches: Matches

    def boxes(self, i: int) -> PictureBoxes:
        """Return all boxes of the picture at position ``i`` in ``0..P-1``."""
        found, truth = self.pairs.found, self.pairs.truth
        rows, objects = _slice(found.pictures, i), _slice(truth.pictures, i)
        columns = (self.matches.right[rows], self.matches.ignored[rows])
        kinds = self.kinds[rows].tolist()
        return PictureBoxes(
            boxes=found.boxes[rows],
            labels=found.labels[rows],
            scores=found.scores[rows],
            kinds=tuple(
                "right" if right else "ignored" if ignored else "wrong"
                for right, ignored in zip(*columns, strict=True)
            ),
            errors=tuple(KINDS[kind] if kind >= 0 else None for kind in kinds),
            truth_boxes=truth.boxes[objects],
            truth_labels=truth.labels[objects],
            truth_kinds=tuple(
                "crowd" if crowd else "found" if is_found else "missed"
                for crowd, is_found in zip(truth.crowd[objects], self.found[objects], strict=True)
            ),
        )


def judge(pairs: Pairs, matches: Matches, breakdown: Breakdown, *, threshold: float) -> Pictures:
    """Return what was found in each picture by detections with at least that score.

    ``matches`` are those at an IoU of 0.5.
    """
    scores, pictures = pairs.found.scores, pairs.found.pictures
    right, wrong = (kind & (scores >= threshold) for kind in (matches.right, matches.wrong))
    found = np.zeros(len(pairs.truth.labels), bool)
    found[matches.objects[right]] = True

    def count(rows: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        return np.bincount(rows, weights, minlength=len(pairs.image_ids))

    objects = count(pairs.truth.pictures[~pairs.truth.crowd])
    missed = objects - count(pictures[right])
    weights = [count(pictures[kind], scores[kind]) for kind in (right, wrong)]
    total = objects + sum(weights)
    quality = 2 * weights[0] / np.where(total > 0, total, np.nan)
    judged = np.flatnonzero(total > 0)
    # Of equals those with more errors are worse, then those with less to find.
    order = np.lexsort((objects[judged], -(weights[1] + missed)[judged], quality[judged]))
    return Pictures(
        threshold=threshold,
        image_ids=pairs.image_ids,
        rows=pairs.rows,
        right=count(pictures[right]),
        wrong=count(pictures[wrong]),
        missed=missed,
        quality=quality,
        order=judged[order],
        found=found,
        kinds=breakdown.kinds,
        pairs=pairs,
        matches=matches,
    )


def _slice(pictures: np.ndarray, i: int) -> slice:
    """Return where picture ``i`` is in rows that are ordered by picture."""
    return slice(*np.searchsorted(pictures, [i, i + 1]).tolist())

"""Detections beside the objects of their pictures: how they overlap and which belong together.

Overlap and matching are COCO's, so that what is counted here adds up to COCO's AP50.

Shapes: P = pictures that count, D = detections, G = objects, M = pairs, K = classes.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from efficientdet.data.index import AnnotationIndex

# Pairs looked at together: some 100 MB.
_AT_ONCE = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Detections in order of their pictures, within one the best first.

    Attributes:
        pictures: ``(D,)`` int64 in ``0..P-1``.
        boxes: ``(D, 4)`` float64 xyxy in pixels.
        labels: ``(D,)`` int64 in ``0..K-1``.
        scores: ``(D,)`` float64.
    """

    pictures: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Objects in order of their pictures, crowd regions among them.

    Attributes:
        pictures: ``(G,)`` int64 in ``0..P-1``.
        boxes: ``(G, 4)`` float64 xyxy in pixels.
        labels: ``(G,)`` int64 in ``0..K-1``.
        crowd: ``(G,)`` bool.
    """

    pictures: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray

    def count(self, num_classes: int) -> np.ndarray:
        """Return the number of objects of each class ``(K,)``; crowd regions do not count."""
        return np.bincount(self.labels[~self.crowd], minlength=num_classes)


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Everything that was found and that is there, and every pair that overlaps at all.

    Attributes:
        image_ids: ``(P,)`` int64, increasing.
        rows: ``(P,)`` int64, the pictures' positions in the index.
        class_names: K names.
        found: the detections.
        truth: the objects.
        detections: ``(M,)`` int64 in ``0..D-1``, increasing.
        objects: ``(M,)`` int64 in ``0..G-1``, an object of the same picture.
        overlaps: ``(M,)`` float64 above 0: IoU; of a crowd region the share of the detection that
            is inside.
    """

    image_ids: np.ndarray
    rows: np.ndarray
    class_names: tuple[str, ...]
    found: Found
    truth: Truth
    detections: np.ndarray
    objects: np.ndarray
    overlaps: np.ndarray

    @property
    def same_class(self) -> np.ndarray:
        """Whether the two of a pair are of one class ``(M,)``."""
        return self.found.labels[self.detections] == self.truth.labels[self.objects]

    @property
    def with_crowd(self) -> np.ndarray:
        """Whether a pair's object is a crowd region ``(M,)``."""
        return self.truth.crowd[self.objects]


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Which detections belong to which objects.

    Attributes:
        objects: ``(D,)`` int64, the object of each detection, -1 if it has none.
        ignored: ``(D,)`` bool, it has none but lies in a crowd region of its class: neither right
            nor wrong.
        detections: ``(G,)`` int64, the detection of each object, -1 if it has none.
    """

    objects: np.ndarray
    ignored: np.ndarray
    detections: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Whether a detection has an object ``(D,)``."""
        return self.objects >= 0

    @property
    def wrong(self) -> np.ndarray:
        """Whether a detection has no object though none excuses it ``(D,)``."""
        return (self.objects < 0) & ~self.ignored


def pair_up(
    index: AnnotationIndex, results: np.ndarray, image_ids: np.ndarray, *, max_detections: int
) -> Pairs:
    """Return the detections and objects of the pictures that count, and their overlaps.

    Args:
        index: the ground truth.
        results: ``(N, 7)`` image id, x, y, w, h, score, category id; rows of other pictures or of
            categories that the index lacks do not count, as with COCO.
        image_ids: ``(P,)``, pictures that count.
        max_detections: how many of a picture and class count, the best.

    Raises:
        ValueError: the index lacks one of the pictures.
    """
    image_ids = np.unique(np.asarray(image_ids, np.int64))
    strange = image_ids[~np.isin(image_ids, index.image_ids)]
    if len(strange):
        raise ValueError(f"image id {strange[0]} is not in the index of {len(index)} pictures")
    rows = np.searchsorted(index.image_ids, image_ids)
    found, boxes_xywh = _found(index, results, image_ids, max_detections)
    truth = _truth(index, rows)
    pairs = _overlapping(found, boxes_xywh, truth)
    return Pairs(image_ids, rows, index.class_names, found, truth, *pairs)


def match(pairs: Pairs, *, min_iou: float) -> Matches:
    """Return who belongs to whom in COCO's way.

    Best score first, a detection takes the object of its class that it overlaps most of those
    that are free and overlap it enough, of equals the last. What is left over and lies in a crowd
    region of its class with at least that share is ignored.
    """
    keys = pairs.found.pictures * len(pairs.class_names) + pairs.found.labels
    return _greedy(pairs, min_iou, pairs.same_class, keys)


def match_across_classes(pairs: Pairs, *, min_iou: float) -> Matches:
    """Return who belongs to whom by overlap alone.

    As `match`, but a detection takes an object of any class; of equals one of its own.
    """
    return _greedy(pairs, min_iou, np.ones(len(pairs.overlaps), bool), pairs.found.pictures)


def _found(
    index: AnnotationIndex, results: np.ndarray, image_ids: np.ndarray, max_detections: int
) -> tuple[Found, np.ndarray]:
    """Return the detections that count, and their boxes as COCO has them ``(D, 4)`` xywh."""
    known = np.isin(results[:, 0], image_ids) & np.isin(results[:, 6], index.category_ids)
    results = results[known]
    results = results[np.lexsort((-results[:, 5], results[:, 0]))]
    pictures = np.searchsorted(image_ids, results[:, 0])
    by_id = np.argsort(index.category_ids)
    labels = by_id[np.searchsorted(index.category_ids, results[:, 6], sorter=by_id)]
    counted = _places(pictures * len(index.class_names) + labels) < max_detections
    xywh = results[counted, 1:5]
    xyxy = np.hstack((xywh[:, :2], xywh[:, :2] + xywh[:, 2:]))
    return Found(pictures[counted], xyxy, labels[counted], results[counted, 5]), xywh


def _truth(index: AnnotationIndex, rows: np.ndarray) -> Truth:
    owners = index.owners
    counted = np.isin(owners, rows)
    return Truth(
        pictures=np.searchsorted(rows, owners[counted]),
        boxes=index.boxes[counted].astype(np.float64),
        labels=index.labels[counted],
        crowd=index.crowd[counted].astype(bool),
    )


def _places(keys: np.ndarray) -> np.ndarray:
    """Return how many entries before each one have its key ``(N,)``."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    places = np.empty(len(keys), np.int64)
    places[order] = np.arange(len(keys)) - np.searchsorted(ordered, ordered)
    return places


def _overlapping(
    found: Found, found_xywh: np.ndarray, truth: Truth
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return detection, object and overlap of the pairs that overlap, each ``(M,)``."""
    # COCO adds sides to corners; the sum may differ from the far corner in its last bit.
    truth_xywh = np.hstack((truth.boxes[:, :2], truth.boxes[:, 2:] - truth.boxes[:, :2]))
    start, stop = (
        np.searchsorted(truth.pictures, found.pictures, side=s) for s in ("left", "right")
    )
    counts = stop - start
    ends = counts.cumsum()
    borders = np.searchsorted(ends, np.arange(_AT_ONCE, counts.sum(), _AT_ONCE))
    columns = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    for part in np.split(np.arange(len(counts)), borders):
        some = counts[part]
        detections = np.repeat(part, some)
        within = np.arange(len(detections)) - np.repeat(some.cumsum() - some, some)
        objects = np.repeat(start[part], some) + within
        overlaps = _overlap(found_xywh[detections], truth_xywh[objects], truth.crowd[objects])
        kept = overlaps > 0
        columns.append((detections[kept], objects[kept], overlaps[kept]))
    detections, objects, overlaps = (np.concatenate(c) for c in zip(*columns, strict=True))
    return detections, objects, overlaps


def _overlap(found_xywh: np.ndarray, truth_xywh: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Return the overlap of ``M`` pairs; of a crowd region it is the share of what was found."""
    far = np.minimum(found_xywh[:, :2] + found_xywh[:, 2:], truth_xywh[:, :2] + truth_xywh[:, 2:])
    inner = (far - np.maximum(found_xywh[:, :2], truth_xywh[:, :2])).clip(min=0).prod(1)
    area = found_xywh[:, 2:].prod(1)
    outer = np.where(crowd, area, area + truth_xywh[:, 2:].prod(1) - inner)
    return inner / np.maximum(outer, np.finfo(float).tiny)


def _greedy(pairs: Pairs, min_iou: float, allowed: np.ndarray, keys: np.ndarray) -> Matches:
    """Let detections choose among the allowed pairs; those with one key ``(D,)`` take turns.

    Detections of different keys never want the same object, so that the first of all keys choose
    at once, then the second of all.
    """
    same, crowd = pairs.same_class, pairs.with_crowd
    enough = pairs.overlaps >= min(min_iou, 1 - 1e-10)
    rows = np.flatnonzero(enough & allowed & ~crowd)
    choosers, inverse = np.unique(pairs.detections[rows], return_inverse=True)
    turns = _places(keys[choosers])[inverse]
    # Within a turn and detection what it likes best is last.
    wish = (pairs.objects[rows], same[rows], pairs.overlaps[rows], pairs.detections[rows], turns)
    order = np.lexsort(wish)
    rows, turns = rows[order], turns[order]
    objects = np.full(len(pairs.found.scores), -1)
    detections = np.full(len(pairs.truth.labels), -1)
    for begin, end in pairwise(np.searchsorted(turns, np.arange(turns.max(initial=-1) + 2))):
        free = rows[begin:end][detections[pairs.objects[rows[begin:end]]] < 0]
        best = free[np.diff(pairs.detections[free], append=-1) != 0]
        objects[pairs.detections[best]] = pairs.objects[best]
        detections[pairs.objects[best]] = pairs.detections[best]
    in_crowd = np.zeros(len(objects), bool)
    in_crowd[pairs.detections[enough & same & crowd]] = True
    return Matches(objects, in_crowd & (objects < 0), detections)

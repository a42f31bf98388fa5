"""Average precision as Pascal VOC computes it since 2010 (VOC2012 devkit, Sec. 3.4).

It differs from COCO's AP50: the area under the whole curve, not 101 points of it, and a detection
belongs to the object it overlaps most, so that a second one of that object is wrong even where
another object is near. The devkit counts whole pixels, a side being ``x1 - x0 + 1``; boxes here
are continuous, as everywhere in the project.
"""

import numpy as np

from efficientdet.data.index import AnnotationIndex
from efficientdet.evaluation.pairs import pair_up


def voc_ap(
    index: AnnotationIndex, results: np.ndarray, image_ids: np.ndarray, *, min_iou: float = 0.5
) -> np.ndarray:
    """Return AP of each class ``(K,)``; nan where it has no objects.

    Args:
        index: the ground truth; a detection that belongs to a crowd region, which in VOC is an
            object marked difficult, is neither right nor wrong.
        results: ``(N, 7)`` image id, x, y, w, h, score, category id.
        image_ids: ``(P,)``, pictures that count.
        min_iou: overlap that makes a detection right.
    """
    pairs = pair_up(index, results, image_ids, max_detections=len(results))
    found, truth, same = pairs.found, pairs.truth, pairs.same_class
    detections, objects = pairs.detections[same], pairs.objects[same]
    overlap = _iou(found.boxes[detections], truth.boxes[objects])
    # Within a detection the largest overlap is last, of equals that with the first object.
    ranked = np.lexsort((-objects, overlap, detections))
    best = ranked[np.diff(detections[ranked], append=-1) != 0]
    best = best[overlap[best] >= min_iou]
    belongs = np.full(len(found.scores), -1)
    belongs[detections[best]] = objects[best]
    # The best detection of an object takes it.
    taken, first = np.unique(belongs, return_index=True)
    right = np.zeros(len(belongs), bool)
    right[first[taken >= 0]] = True
    counted = ~np.append(truth.crowd, False)[belongs]  # -1, no object, is the last
    order = np.argsort(-found.scores, kind="stable")
    order = order[counted[order]]
    labels, right = found.labels[order], right[order]
    counts = truth.count(len(index.class_names)).tolist()
    return np.array([_area(right[labels == k], count) for k, count in enumerate(counts)])


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the IoU of pairs of xyxy boxes ``(N, 4)``; 0 for boxes without area."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    inner = sides.clip(min=0).prod(1)
    outer = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - inner
    return inner / np.maximum(outer, np.finfo(float).tiny)


def _area(right: np.ndarray, num_objects: int) -> float:
    """Return the area under the precision envelope; ``right`` is in order of falling scores."""
    if num_objects == 0:
        return float("nan")
    precision = right.cumsum() / np.arange(1, len(right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    # Each right detection moves recall on by one object.
    return float(envelope[right].sum() / num_objects)

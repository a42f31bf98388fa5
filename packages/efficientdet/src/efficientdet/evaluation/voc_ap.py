"""Average precision as Pascal VOC computes it since 2010 (VOC2012 devkit, Sec. 3.4).

It differs from COCO's AP50: the area under the whole curve, not 101 points of it, and a detection
belongs to the object it overlaps most, so that a second one of that object is wrong even where
another object is near. The devkit counts whole pixels, a side being ``x1 - x0 + 1``; boxes here
are continuous, as everywhere in the project.
"""

import numpy as np

from efficientdet.data.index import AnnotationIndex


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
    results = results[np.isin(results[:, 0], image_ids)]
    results = results[np.argsort(-results[:, 5], kind="stable")]  # best first
    by_id = np.argsort(index.category_ids)
    labels = by_id[np.searchsorted(index.category_ids, results[:, 6], sorter=by_id)]
    pictures = np.searchsorted(index.image_ids, results[:, 0])
    owners = index.owners
    num_classes = len(index.class_names)
    belongs = _most_overlapped(
        _to_xyxy(results[:, 1:5]),
        pictures * num_classes + labels,
        index.boxes,
        owners * num_classes + index.labels,
        min_iou,
    )
    # The best detection of an object takes it.
    taken, first = np.unique(belongs, return_index=True)
    right = np.zeros(len(results), bool)
    right[first[taken >= 0]] = True
    counted = ~np.append(index.crowd, False)[belongs]  # -1, no object, is the last
    objects = index.labels[~index.crowd & np.isin(index.image_ids[owners], image_ids)]
    return np.array(
        [
            _area(right[counted & (labels == label)], int((objects == label).sum()))
            for label in range(num_classes)
        ]
    )


def _most_overlapped(
    boxes: np.ndarray,
    keys: np.ndarray,
    object_boxes: np.ndarray,
    object_keys: np.ndarray,
    min_iou: float,
) -> np.ndarray:
    """Return for each box ``(N, 4)`` the object it overlaps most, ``(N,)``; -1 if less than asked.

    Only objects with the key of the box, its picture and class, are looked at.
    """
    order = np.argsort(object_keys, kind="stable")
    start, stop = (np.searchsorted(object_keys[order], keys, side=s) for s in ("left", "right"))
    counts = stop - start
    ends = counts.cumsum()
    # One pair for every object of a box: positions start..stop of the sorted objects.
    box = np.repeat(np.arange(len(boxes)), counts)
    candidate = order[np.arange(len(box)) + np.repeat(start - (ends - counts), counts)]
    overlap = _iou(boxes[box], object_boxes[candidate])
    ranked = np.lexsort((-candidate, overlap, box))  # within a box the largest overlap is last
    some = counts > 0
    best = ranked[ends[some] - 1]
    belongs = np.full(len(boxes), -1)
    belongs[some] = np.where(overlap[best] >= min_iou, candidate[best], -1)
    return belongs


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the IoU of pairs of xyxy boxes ``(N, 4)``; 0 for boxes without area."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    inner = sides.clip(min=0).prod(1)
    outer = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - inner
    return inner / np.maximum(outer, np.finfo(float).tiny)


def _to_xyxy(boxes_xywh: np.ndarray) -> np.ndarray:
    return np.hstack((boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]))


def _area(right: np.ndarray, num_objects: int) -> float:
    """Return the area under the precision envelope; ``right`` is in order of falling scores."""
    if num_objects == 0:
        return float("nan")
    precision = right.cumsum() / np.arange(1, len(right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    # Each right detection moves recall on by one object.
    return float(envelope[right].sum() / num_objects)

"""Weighted box fusion: several passes over one picture become one list (arXiv:1910.13302).

Official `tf2/wbf.py`, with the paper's order: boxes are taken by score, best first. The official
file takes them as they come, knows no weights of passes, and loses the last class (it compares
classes that begin at 1 with ``range(num_classes)``).

Shapes: N = boxes of one class from all passes, G = clusters.
"""

from collections.abc import Sequence

import numpy as np
import torch

from compound.errors import UserError
from efficientdet.postprocess import Detections


@torch.no_grad()
def fuse(
    detections: Sequence[Detections],
    *,
    iou: float = 0.55,
    max_detections: int = 100,
    score_threshold: float = 0.001,
    weights: Sequence[float] | None = None,
) -> Detections:
    """Return one picture's detections from those of several passes over it.

    A box joins the cluster of its class whose mean box it overlaps most, if by at least ``iou``,
    or founds one. The mean is weighted by score. A cluster's score is the mean score of its
    members, times ``min(members, passes) / passes`` (paper, Eq. 5): what only some passes saw is
    believed less.

    Args:
        detections: of each pass, in the same pixels.
        iou: overlap from which boxes are one object.
        max_detections: detections kept.
        score_threshold: lowest fused score that is kept.
        weights: how much each pass counts; only their ratios matter.

    Raises:
        UserError: there is nothing to fuse, or the weights do not fit the passes.
    """
    shares = _shares(len(detections), weights)
    # The clusters grow box by box: so small a job is quickest in numpy.
    fields = (torch.cat(field).cpu().numpy() for field in zip(*detections, strict=True))
    boxes, scores, labels = fields
    votes = scores * np.repeat(shares, [len(found.scores) for found in detections])
    parts = []
    for label in np.unique(labels):
        own = (labels == label) & (votes > 0)
        means, means_score = _cluster(boxes[own].astype(np.float64), votes[own], iou, len(shares))
        parts.append((means, means_score, np.full(len(means), label)))
    empty = (np.empty((0, 4)), np.empty(0), np.empty(0, np.int64))
    fused = [np.concatenate(part) for part in zip(empty, *parts, strict=True)]
    order = np.argsort(-fused[1], kind="stable")[:max_detections]
    order = order[fused[1][order] >= score_threshold]
    return Detections(
        *(
            torch.from_numpy(ours[order]).to(like)
            for ours, like in zip(fused, detections[0], strict=True)
        )
    )


def _shares(passes: int, weights: Sequence[float] | None) -> np.ndarray:
    """Return a pass's weight ``(passes,)``, on average 1."""
    if passes == 0:
        raise UserError("detections: none to fuse; give those of at least one pass")
    shares = np.ones(passes) if weights is None else np.array(weights, np.float64)
    if len(shares) != passes or not (shares >= 0).all() or shares.sum() == 0:
        raise UserError(f"weights={weights}: expected {passes} numbers, none below 0, some above")
    return shares / shares.mean()


def _cluster(
    boxes: np.ndarray, votes: np.ndarray, iou: float, passes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the clusters' boxes ``(G, 4)`` and scores ``(G,)`` of one class.

    Args:
        boxes: ``(N, 4)`` xyxy.
        votes: ``(N,)`` scores, weighted by pass, above 0.
        iou: overlap from which a box joins a cluster.
        passes: their number.
    """
    sums, means = np.zeros_like(boxes), np.zeros_like(boxes)
    mass, members, count = np.zeros(len(boxes)), np.zeros(len(boxes)), 0
    for row in np.argsort(-votes, kind="stable"):
        cluster = count
        if count:
            overlaps = _iou(boxes[row], means[:count])
            nearest = int(overlaps.argmax())
            cluster = nearest if overlaps[nearest] >= iou else count
        sums[cluster] += votes[row] * boxes[row]
        mass[cluster] += votes[row]
        members[cluster] += 1
        means[cluster] = sums[cluster] / mass[cluster]
        count = max(count, cluster + 1)
    scores = mass[:count] / members[:count] * np.minimum(members[:count], passes) / passes
    return means[:count], scores


def _iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the IoU ``(G,)`` of a box ``(4,)`` with each of ``(G, 4)``; nan if both are empty."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = sides.clip(0).prod(1)
    area = (others[:, 2:] - others[:, :2]).prod(1)
    with np.errstate(invalid="ignore"):
        return shared / ((box[2:] - box[:2]).prod() + area - shared)

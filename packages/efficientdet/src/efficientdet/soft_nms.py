"""Gaussian soft-NMS: overlapping boxes lose score instead of being thrown away.

arXiv:1704.04503, Sec. 3, as Google's COCO evaluation runs it. TensorFlow's operator defines sigma
twice as large: its 0.25 is the paper's 0.5 and ours.
"""

import torch
from torch import Tensor


@torch.no_grad()
def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    *,
    sigma: float = 0.5,
    score_threshold: float = 0.001,
    max_detections: int = 100,
) -> tuple[Tensor, Tensor]:
    """Return which boxes stay, best first, and their scores after all decay.

    The best box of all classes is picked again and again; each time the others of its class decay
    by ``exp(-iou ** 2 / sigma)``. Classes do not touch each other, so these are the picks that
    one run a class would give, merged by score. Nothing waits for the device before the end.

    Args:
        boxes: ``(N, 4)`` xyxy.
        scores: ``(N,)``.
        labels: ``(N,)``.
        sigma: how gently overlap is punished.
        score_threshold: lowest score, after decay, that is kept.
        max_detections: boxes kept.

    Returns:
        Indices into ``boxes`` and scores, both ``(M,)`` with M at most ``max_detections``.
    """
    corners = boxes.T.contiguous()  # x0, y0, x1, y1
    area = (corners[2:] - corners[:2]).clamp_(min=0).prod(0)
    scores = scores.clone()
    picks, picked_scores = [], []
    for _ in range(min(max_detections, len(scores))):
        # One-element slices: an index without a dimension would be fetched from the device.
        best, pick = scores.max(0, keepdim=True)
        picks.append(pick)
        picked_scores.append(best)
        iou = _iou(corners, area, pick)
        iou *= labels == labels[pick]
        scores *= torch.exp(iou.square_().div_(-sigma))
        scores.index_fill_(0, pick, -torch.inf)
    if not picks:
        return labels[:0].long(), scores[:0]
    # A pick never beats the one before, so those that are kept come first.
    kept, decayed = torch.cat(picks), torch.cat(picked_scores)
    enough = decayed >= score_threshold
    return kept[enough], decayed[enough]


def _iou(corners: Tensor, area: Tensor, pick: Tensor) -> Tensor:
    """Return the IoU ``(N,)`` of every box with the picked one; 0 where they do not overlap."""
    picked = corners[:, pick]
    sides = torch.minimum(corners[2:], picked[2:]) - torch.maximum(corners[:2], picked[:2])
    shared = sides.clamp_(min=0).prod(0)
    return torch.where(shared > 0, shared / (area + area[pick] - shared), 0)

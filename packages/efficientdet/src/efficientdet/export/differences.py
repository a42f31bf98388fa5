"""How far an exported detector's findings are from those of the network it was made from."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_iou

from efficientdet.postprocess import Detections

# Two detections of one class that overlap so much are the same one, and those that are so near,
# in pixels: a box may have no area where it was cut at the picture's border.
_SAME, _NEAR = 0.5, 1.0


class Difference(NamedTuple):
    """The largest differences over some pictures.

    Attributes:
        score: of the scores of the same detections.
        box: of their boxes' sides, in pixels.
        unmatched: share of the detections, of both, that the other has not.
    """

    score: float
    box: float
    unmatched: float


def compare(wanted: Sequence[Detections], found: Sequence[Detections]) -> Difference:
    """Compare what two networks found in the same pictures.

    A detection's partner is the one of its class that is almost where it is, or overlaps it most,
    by half or more; best scores choose first.
    """
    score = box = 0.0
    pairs = total = 0
    for one, other in zip(wanted, found, strict=True):
        mine, theirs = _partners(one, other)
        if len(mine):
            apart = one.scores[mine] - other.scores[theirs]
            score = max(score, float(apart.abs().max()))
            apart = one.boxes_xyxy[mine] - other.boxes_xyxy[theirs]
            box = max(box, float(apart.abs().max()))
        pairs += len(mine)
        total += len(one.scores) + len(other.scores)
    return Difference(score, box, 1 - 2 * pairs / total if total else 0.0)


def _partners(one: Detections, other: Detections) -> tuple[Tensor, Tensor]:
    """Return rows of both that are the same detections."""
    ious = box_iou(one.boxes_xyxy, other.boxes_xyxy)
    apart = (one.boxes_xyxy[:, None] - other.boxes_xyxy).abs().amax(2)
    ious = ious.nan_to_num().where(apart > _NEAR, 2 - apart)
    ious[one.labels[:, None] != other.labels] = 0
    mine, theirs = [], []
    for row in range(len(ious) if ious.shape[1] else 0):
        best = int(ious[row].argmax())
        if ious[row, best] >= _SAME:
            mine.append(row)
            theirs.append(best)
            ious[:, best] = 0
    return torch.tensor(mine, dtype=torch.long), torch.tensor(theirs, dtype=torch.long)

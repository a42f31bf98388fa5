"""Which anchor answers for which object (official `AnchorLabeler`, argmax matcher at 0.5).

Shapes: A = anchors, N = objects of one picture, P = positives of the whole batch.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_iou

from efficientdet.boxes import encode

MATCH_IOU = 0.5


class Targets(NamedTuple):
    """The positives of a batch; every other anchor is background, none is ignored.

    Attributes:
        images: ``(P,)`` index of the picture within the batch.
        anchors: ``(P,)`` index of the anchor within the picture.
        labels: ``(P,)`` class in 0..K-1.
        codes: ``(P, 4)`` box codes relative to the anchor.
    """

    images: Tensor
    anchors: Tensor
    labels: Tensor
    codes: Tensor


def match(anchors: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the positive anchors of one picture and the object of each.

    An anchor takes the object that it overlaps most, if their IoU is at least 0.5. Besides,
    every object gets the anchor that overlaps it most, however little; where two objects claim
    one anchor the first one wins.

    Args:
        anchors: ``(A, 4)`` xyxy.
        boxes: ``(N, 4)`` xyxy.

    Returns:
        Indices into ``anchors`` in rising order and into ``boxes``, both ``(P',)``.
    """
    num_objects = len(boxes)
    if num_objects == 0:
        empty = torch.zeros(0, dtype=torch.long, device=anchors.device)
        return empty, empty
    iou = box_iou(boxes, anchors)  # (N, A)
    best_iou, owner = iou.max(0)
    claimed = torch.full_like(owner, num_objects).scatter_reduce_(
        0, iou.argmax(1), torch.arange(num_objects, device=owner.device), "amin"
    )
    owner = torch.where(claimed < num_objects, claimed, owner)
    positive = ((best_iou >= MATCH_IOU) | (claimed < num_objects)).nonzero().squeeze(1)
    return positive, owner[positive]


@torch.no_grad()
def assign(anchors: Tensor, boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> Targets:
    """Match a batch of pictures.

    Args:
        anchors: ``(A, 4)`` xyxy, the same for every picture.
        boxes: one ``(N, 4)`` xyxy a picture; N may be 0.
        labels: one ``(N,)`` a picture.
    """
    # A GPU is soonest done with all pairs at once, a CPU if it looks at few of them.
    matched = partial(match, anchors) if anchors.is_cuda else AnchorsByArea(anchors).match
    parts = []
    for image, (image_boxes, image_labels) in enumerate(zip(boxes, labels, strict=True)):
        positive, owner = matched(image_boxes)
        codes = encode(image_boxes[owner], anchors[positive])
        parts.append((torch.full_like(positive, image), positive, image_labels[owner], codes))
    return Targets(*(torch.cat(column) for column in zip(*parts, strict=True)))


class AnchorsByArea:
    """Anchors in order of their areas, so that an object need not be compared with all.

    The IoU of two boxes is at most the smaller area over the larger one: only anchors between half
    and twice an object's area can reach 0.5, and once one is known that reaches m, only those
    between m and 1/m of it can be better.

    Args:
        anchors: ``(A, 4)`` xyxy.
    """

    def __init__(self, anchors: Tensor) -> None:
        areas = (anchors[:, 2:] - anchors[:, :2]).prod(1)
        self.areas, self.order = areas.sort()
        self.corners = anchors[self.order].T.contiguous()  # x0, y0, x1, y1

    def match(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `match` returns for objects ``(N, 4)``."""
        num_anchors = len(self.order)
        best = torch.full((num_anchors,), MATCH_IOU)
        owner = torch.full((num_anchors,), -1)
        favourites = []
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        for i, (*box, area) in enumerate(torch.cat([boxes, areas[:, None]], 1).tolist()):
            near = self._between(area, MATCH_IOU)
            iou = self._iou(box, area, near)
            # Of equal ones the first object wins; it may be at 0.5 exactly.
            better = iou >= MATCH_IOU
            better &= (iou > best[near]) | (owner[near] < 0)
            best[near] = torch.where(better, iou, best[near])
            owner[near] = owner[near].masked_fill_(better, i)
            favourites.append(self._favourite(box, area, near, iou))
        for i in reversed(range(len(favourites))):  # of several the first one wins
            owner[favourites[i]] = i
        positive = (owner >= 0).nonzero().squeeze(1)
        anchors, sorting = self.order[positive].sort()
        return anchors, owner[positive][sorting]

    def _favourite(self, box: list[float], area: float, near: slice, iou: Tensor) -> int:
        """Return the row of the anchor that overlaps an object most, of several the first one."""
        most = float(iou.max()) if len(iou) else 0.0
        if most < MATCH_IOU:
            near = self._between(area, most)
            iou = self._iou(box, area, near)
            most = float(iou.max())
        rows = (iou == most).nonzero().squeeze(1) + near.start
        return int(rows[self.order[rows].argmin()])

    def _between(self, area: float, share: float) -> slice:
        """Return the rows with at least this share of an object's area, and its inverse at most."""
        # A little more, as areas are rounded.
        limits = torch.tensor([area * share * 0.999, area / max(share, 1e-30) * 1.001])
        first, last = torch.searchsorted(self.areas, limits, right=False).tolist()
        return slice(first, last)

    def _iou(self, box: list[float], area: float, rows: slice) -> Tensor:
        x0, y0, x1, y1 = self.corners[:, rows]
        shared = x1.clamp(max=box[2]).sub_(x0.clamp(min=box[0])).clamp_(min=0)
        shared *= y1.clamp(max=box[3]).sub_(y0.clamp(min=box[1])).clamp_(min=0)
        return shared / (self.areas[rows] + area).sub_(shared)

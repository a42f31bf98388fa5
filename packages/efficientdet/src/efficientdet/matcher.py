"""Which anchor answers for which object (official `AnchorLabeler`, argmax matcher at 0.5).

Shapes: A = anchors, N = objects of one picture, P = positives of the whole batch.
"""

from collections.abc import MutableMapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary
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
    # A GPU is soonest done with all pairs of a picture, a CPU if it looks at few of them.
    match_batch = match_near_pairs if anchors.device.type == "cpu" else match_all_pairs
    objects, counts = torch.cat(list(boxes)), [len(of_picture) for of_picture in boxes]
    images, positive, owner = match_batch(anchors, objects, counts)
    codes = encode(objects[owner], anchors[positive])
    return Targets(images, positive, torch.cat(list(labels))[owner], codes)


def match_all_pairs(
    anchors: Tensor, objects: Tensor, counts: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `match` finds in each picture of a batch.

    Args:
        anchors: ``(A, 4)`` xyxy.
        objects: ``(N, 4)`` xyxy, of all pictures, one picture after the other.
        counts: how many each picture has.

    Returns:
        Indices of picture, anchor and object, ``(P,)`` each.
    """
    parts, start = [], 0
    for image, of_picture in enumerate(objects.split(list(counts))):
        positive, owner = match(anchors, of_picture)
        parts.append((torch.full_like(positive, image), positive, owner + start))
        start += len(of_picture)
    images, positive, owner = (torch.cat(column) for column in zip(*parts, strict=True))
    return images, positive, owner


def match_near_pairs(
    anchors: Tensor, objects: Tensor, counts: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the same as `match_all_pairs`, from few of the pairs."""
    num_anchors = len(anchors)
    pictures = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    finder = _FINDERS.get(anchors)
    if finder is None:
        finder = _FINDERS[anchors] = _NearPairs(anchors)
    pairs = finder.find(objects, torch.full((len(objects),), MATCH_IOU))
    best, claimed = _best(pairs.owner, pairs.anchor, pairs.iou, len(objects))
    sought = MATCH_IOU
    # Who found nothing so near looks further: most then reach 0.1, and few see all anchors.
    for least in (0.1, 0.0):
        rest = (best < sought).nonzero().squeeze(1)
        more = finder.find(objects[rest], best[rest].clamp(min=least))
        best[rest], claimed[rest] = _best(more.owner, more.anchor, more.iou, len(rest))
        sought = least
    assert (claimed >= 0).all(), "a box that is none"
    enough = (pairs.iou >= MATCH_IOU).nonzero().squeeze(1)
    owner, anchor, iou = (column.index_select(0, enough) for column in pairs)
    place = pictures[owner] * num_anchors + anchor
    _, owners = _best(place, owner, iou, len(counts) * num_anchors)
    claimed += pictures * num_anchors
    owners.scatter_reduce_(0, claimed, torch.arange(len(objects)), "amin", include_self=False)
    positive = (owners >= 0).nonzero().squeeze(1)
    return positive // num_anchors, positive % num_anchors, owners[positive]


def _best(keys: Tensor, values: Tensor, iou: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the largest IoU of each of ``count`` keys and its value, of several the lowest.

    A key without pairs has 0 and -1.
    """
    best = iou.new_zeros(count).scatter_reduce_(0, keys, iou, "amax")
    ties = (iou == best.index_select(0, keys)).nonzero().squeeze(1)
    lowest = torch.full((count,), -1)
    lowest.scatter_reduce_(0, keys[ties], values[ties], "amin", include_self=False)
    return best, lowest


class _Pairs(NamedTuple):
    """Objects and anchors, by their indices, and the IoU of each pair."""

    owner: Tensor
    anchor: Tensor
    iou: Tensor


class _NearPairs:
    """Finds the pairs whose IoU can reach a share m.

    The IoU of two boxes is at most the smaller area over the larger one, and at most the IoU of
    their vertical extents. So an anchor's area lies between m and 1/m of the object's, and its
    centre no further below or above the object's than (1/m - 1) / 2 of the object's height. The
    anchors lie in classes of about one area, and in each in the order of their centres, so that
    those of an object are a few runs. A training has the same anchors in every step.

    Args:
        anchors: ``(A, 4)`` xyxy.
    """

    def __init__(self, anchors: Tensor) -> None:
        areas = (anchors[:, 2:] - anchors[:, :2]).prod(1)
        classes, which = areas.log2().mul(4).round().unique(return_inverse=True)
        self.smallest, self.largest = 2 ** ((classes - 0.51) / 4), 2 ** ((classes + 0.51) / 4)
        centres = (anchors[:, 1].double() + anchors[:, 3]) / 2
        self.top, self.room = centres.min(), float(centres.max() - centres.min())
        self.starts = torch.arange(len(classes)) * (self.room + 1)
        self.keys, self.anchors = (self.starts[which] + centres - self.top).sort()
        self.columns = torch.cat([anchors, areas[:, None]], 1)[self.anchors].T.contiguous()

    def find(self, boxes: Tensor, least: Tensor) -> _Pairs:
        """Return the pairs.

        Args:
            boxes: ``(N, 4)`` xyxy.
            least: ``(N,)`` the m of each, in 0..1; with 0 all anchors are its pairs.
        """
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        y0, y1, area, share = boxes[:, 1:2], boxes[:, 3:4], areas[:, None], least[:, None] * 0.999
        reach = torch.where(share > 0, (y1 - y0) * (1 / share - 1) / 2, torch.inf)
        near = (self.largest >= area * share) & (self.smallest * share <= area)  # (N, classes)
        centre = (y0.double() + y1) / 2 - self.top
        low, high = (
            self.starts + (centre + side).clamp(min=-0.5, max=self.room + 0.5)
            for side in (-reach, reach)
        )
        first = torch.searchsorted(self.keys, low)
        counts = (torch.searchsorted(self.keys, high, right=True) - first) * near
        starts = first.flatten() - counts.flatten().cumsum(0) + counts.flatten()
        rows = starts.repeat_interleave(counts.flatten())
        rows += torch.arange(len(rows))
        owner = torch.arange(len(boxes)).repeat_interleave(counts.sum(1))
        # A CPU selects sooner than it indexes.
        x0, y0, x1, y1, anchor_area = (c.index_select(0, rows) for c in self.columns)
        left, top, right, bottom = (c.index_select(0, owner) for c in boxes.unbind(1))
        shared = torch.minimum(x1, right).sub_(torch.maximum(x0, left)).clamp_(min=0)
        shared *= torch.minimum(y1, bottom).sub_(torch.maximum(y0, top)).clamp_(min=0)
        union = areas.index_select(0, owner).add_(anchor_area).sub_(shared)
        return _Pairs(owner, self.anchors.index_select(0, rows), shared.div_(union))


# By the very tensor, as long as somebody has it.
_FINDERS: MutableMapping[Tensor, _NearPairs] = WeakTensorKeyDictionary()

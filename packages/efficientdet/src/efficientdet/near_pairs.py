"""The matcher for a CPU: it computes the IoU of the few pairs that can reach a threshold.

Shapes: A = anchors, N = objects of all images of a batch, P = positives of the whole batch.
"""

from collections.abc import MutableMapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary


def match_near_pairs(
    anchors: Tensor, objects: Tensor, counts: Sequence[int], *, min_iou: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the same as `efficientdet.matcher.match_all_pairs`, from few of the pairs.

    Args:
        anchors: ``(A, 4)`` xyxy.
        objects: ``(N, 4)`` xyxy, of all images, one image after the other.
        counts: how many each image has.
        min_iou: IoU from which an anchor takes an object, above 0.1.

    Returns:
        Indices of image, anchor and object, ``(P,)`` each.
    """
    num_anchors = len(anchors)
    pictures = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    finder = _FINDERS.get(anchors)
    if finder is None:
        finder = _FINDERS[anchors] = _NearPairs(anchors)
    pairs = finder.find(objects, torch.full((len(objects),), min_iou))
    best, claimed = _best(pairs.owner, pairs.anchor, pairs.iou, len(objects))
    sought = min_iou
    # Who found nothing so near looks further: most then reach 0.1, and few see all anchors.
    for least in (0.1, 0.0):
        rest = (best < sought).nonzero().squeeze(1)
        more = finder.find(objects[rest], best[rest].clamp(min=least))
        best[rest], claimed[rest] = _best(more.owner, more.anchor, more.iou, len(rest))
        sought = least
    assert (claimed >= 0).all(), "a box that is none"
    enough = (pairs.iou >= min_iou).nonzero().squeeze(1)
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
        # A CPU selects faster than it indexes.
        x0, y0, x1, y1, anchor_area = (c.index_select(0, rows) for c in self.columns)
        left, top, right, bottom = (c.index_select(0, owner) for c in boxes.unbind(1))
        shared = torch.minimum(x1, right).sub_(torch.maximum(x0, left)).clamp_(min=0)
        shared *= torch.minimum(y1, bottom).sub_(torch.maximum(y0, top)).clamp_(min=0)
        union = areas.index_select(0, owner).add_(anchor_area).sub_(shared)
        return _Pairs(owner, self.anchors.index_select(0, rows), shared.div_(union))


# By the very tensor, as long as somebody has it.
_FINDERS: MutableMapping[Tensor, _NearPairs] = WeakTensorKeyDictionary()

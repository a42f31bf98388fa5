"""Which anchor answers for which object (official `AnchorLabeler`, argmax matcher at 0.5).

Shapes: A = anchors, N = objects of one picture, P = positives of the whole batch.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_iou

from efficientdet.boxes import encode
from efficientdet.near_pairs import match_near_pairs

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
    objects, counts = torch.cat(list(boxes)), [len(of_picture) for of_picture in boxes]
    # A GPU is fastest with all pairs of an image, a CPU with few of them.
    if anchors.device.type == "cpu":
        images, positive, owner = match_near_pairs(anchors, objects, counts, min_iou=MATCH_IOU)
    else:
        images, positive, owner = match_all_pairs(anchors, objects, counts)
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

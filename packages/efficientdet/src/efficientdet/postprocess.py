"""From network outputs to detections: best pairs of anchor and class, decoding, per-class NMS.

Official `tf2/postprocess.py` as its COCO evaluation runs it, with hard NMS: the best 5000
(anchor, class) pairs of a picture, NMS at IoU 0.5 within each class, the best 100 that remain.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from efficientdet.anchors import ANCHORS_PER_PLACE
from efficientdet.boxes import decode

# Pixels, beyond any picture: nothing bounds a decoded box.
_FAR = 1e6


class Detections(NamedTuple):
    """What was found in one picture, best first.

    Attributes:
        boxes_xyxy: ``(N, 4)`` pixels.
        scores: ``(N,)`` in 0..1.
        labels: ``(N,)`` class in 0..K-1.
    """

    boxes_xyxy: Tensor
    scores: Tensor
    labels: Tensor


@torch.no_grad()
def postprocess(
    class_logits: Sequence[Tensor],
    box_codes: Sequence[Tensor],
    anchors: Tensor,
    *,
    score_threshold: float = 0.001,
    nms_iou: float = 0.5,
    max_candidates: int = 5000,
    max_detections: int = 100,
) -> list[Detections]:
    """Return the detections of every picture of a batch, in pixels of the network's input.

    Args:
        class_logits: one ``(B, A * K, h, w)`` a level.
        box_codes: one ``(B, A * 4, h, w)`` a level.
        anchors: every anchor as xyxy, in the order of `make_anchors`.
        score_threshold: lowest score that is kept.
        nms_iou: boxes of a class that overlap more than this are one.
        max_candidates: pairs of anchor and class that go into NMS.
        max_detections: detections kept of a picture.
    """
    logits = torch.cat([_rows(level) for level in class_logits], 1).float()  # (B, anchors, K)
    codes = torch.cat([_rows(level) for level in box_codes], 1).float()  # (B, anchors, 4)
    num_classes = logits.shape[-1]
    pairs = logits.flatten(1)
    best, index = pairs.topk(min(max_candidates, pairs.shape[1]))
    scores = best.sigmoid()
    results = []
    for image in range(len(pairs)):
        keep = scores[image] >= score_threshold
        rows = index[image][keep].div(num_classes, rounding_mode="floor")
        labels = index[image][keep] % num_classes
        boxes = decode(codes[image, rows], anchors[rows])
        image_scores = scores[image][keep]
        # It shifts each class by the largest coordinate, so boxes must not be negative, and far
        # ones must not cost the others their precision.
        shifted = boxes.double().clamp(-_FAR, _FAR) + _FAR
        kept = batched_nms(shifted, image_scores.double(), labels, nms_iou)[:max_detections]
        results.append(Detections(boxes[kept], image_scores[kept], labels[kept]))
    return results


def _rows(output: Tensor) -> Tensor:
    """Bring a level's ``(B, A * C, h, w)`` into the anchors' order, ``(B, h * w * A, C)``."""
    channels = output.shape[1] // ANCHORS_PER_PLACE
    return output.permute(0, 2, 3, 1).reshape(len(output), -1, channels)

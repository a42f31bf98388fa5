"""From network outputs to detections: candidates, decoding, non-maximum suppression.

Official `tf2/postprocess.py`. The official code cuts the boxes of NMS across classes at the
picture's border afterwards and leaves the others; here no box is cut.

Shapes: B = batch, A = anchors a place, K = classes, C = candidates of all pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from compound.errors import closest
from efficientdet.anchors import ANCHORS_PER_PLACE
from efficientdet.boxes import decode
from efficientdet.soft_nms import soft_nms

Method = Literal["per_class", "fast", "soft"]

# Pixels, beyond any picture: nothing bounds a decoded box.
FAR = 1e6
# Hard NMS begins with so many of the best candidates: what it picks of them does not depend on
# the others, which are seldom needed.
_FIRST = 1000


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


@dataclass(frozen=True, slots=True)
class Suppression:
    """A way from candidates to detections.

    Attributes:
        one_label: an anchor proposes its best class only, not every class.
        across_classes: boxes of different classes suppress each other.
        soft: they lose score by their overlap (`soft_nms`) and do not vanish beyond one (hard).
    """

    one_label: bool
    across_classes: bool
    soft: bool


# `fast` is the official serving path, with hard NMS; `soft` is the official COCO evaluation, and
# `per_class` the same with hard NMS.
METHODS: dict[str, Suppression] = {
    "per_class": Suppression(one_label=False, across_classes=False, soft=False),
    "fast": Suppression(one_label=True, across_classes=True, soft=False),
    "soft": Suppression(one_label=False, across_classes=False, soft=True),
}


@torch.no_grad()
def postprocess(
    class_logits: Sequence[Tensor],
    box_codes: Sequence[Tensor],
    anchors: Tensor,
    *,
    method: Method | Suppression = "per_class",
    score_threshold: float = 0.001,
    nms_iou: float = 0.5,
    sigma: float = 0.5,
    max_candidates: int = 5000,
    max_detections: int = 100,
) -> list[Detections]:
    """Return the detections of every picture of a batch, in pixels of the network's input.

    Args:
        class_logits: one ``(B, A * K, h, w)`` a level.
        box_codes: one ``(B, A * 4, h, w)`` a level.
        anchors: every anchor as xyxy, in the order of `make_anchors`.
        method: a name of `METHODS`, or a combination of one's own.
        score_threshold: lowest score that is kept.
        nms_iou: boxes that overlap more than this are one; for hard NMS.
        sigma: how gently overlap is punished; for soft NMS.
        max_candidates: pairs of anchor and class that go into NMS.
        max_detections: detections kept of a picture.
    """
    if not isinstance(method, Suppression):
        method = METHODS[closest(method, METHODS, what="method")]
    # The logit of the threshold: only what stays becomes a score.
    least = torch.tensor(score_threshold, dtype=torch.float64).clamp(0, 1).logit().item()
    floor, images, logits, boxes = _promising(
        class_logits, box_codes, anchors, least, max_candidates
    )
    results = []
    for image in range(len(class_logits[0])):
        own = images == image
        values, rows, labels = _pairs(logits[own], method.one_label, floor[image], max_candidates)
        pairs = Detections(boxes[own][rows], values.sigmoid(), labels)
        groups = torch.zeros_like(labels) if method.across_classes else labels
        bounded = pairs.boxes_xyxy.clamp(-FAR, FAR)
        if method.soft:
            kept, scores = soft_nms(
                bounded,
                pairs.scores,
                groups,
                sigma=sigma,
                score_threshold=score_threshold,
                max_detections=max_detections,
            )
        else:
            kept = hard_nms(bounded, pairs.scores, groups, nms_iou, max_detections)
            scores = pairs.scores[kept]
        results.append(Detections(pairs.boxes_xyxy[kept], scores, labels[kept]))
    return results


def hard_nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou: float, count: int) -> Tensor:
    """Return which ``count`` boxes stay, best first, of boxes that are sorted by score."""
    from torchvision.ops import batched_nms  # networks need torch alone

    # It shifts each group by the largest coordinate: boxes must not be negative, and far ones
    # must not cost the others their precision.
    boxes, scores = boxes.double() + FAR, scores.double()
    kept = batched_nms(boxes[:_FIRST], scores[:_FIRST], groups[:_FIRST], iou)
    if len(kept) < count and len(boxes) > _FIRST:
        kept = batched_nms(boxes, scores, groups, iou)
    return kept[:count]


def _promising(
    class_logits: Sequence[Tensor],
    box_codes: Sequence[Tensor],
    anchors: Tensor,
    least: float,
    count: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the anchors that can own one of a picture's ``count`` best pairs.

    Those have one of the ``count`` best best classes, so that most logits are read only once, in
    whatever order they lie in memory. None of the best pairs is below these classes either.

    Returns:
        Lowest logit of each picture ``(B,)``; index of the picture ``(C,)``, logits ``(C, K)`` and
        boxes ``(C, 4)``.
    """
    peaks = [level.unflatten(1, (ANCHORS_PER_PLACE, -1)).amax(2) for level in class_logits]
    every = torch.cat([peak.flatten(1) for peak in peaks], 1)  # peaks are (B, A, h, w)
    floor = every.new_full((len(every),), least, dtype=torch.float32)
    if every.shape[1] > count:
        floor = every.topk(count).values[:, -1].float().clamp(min=least)
    parts, start = [], 0
    for logits, codes, peak in zip(class_logits, box_codes, peaks, strict=True):
        where = (peak >= floor[:, None, None, None]).nonzero()
        image, a, y, x = where.unbind(1)
        row = (y * peak.shape[3] + x) * ANCHORS_PER_PLACE + a + start
        boxes = decode(_taken(codes, where).float(), anchors[row])
        parts.append((image, _taken(logits, where).float(), boxes))
        start += peak[0].numel()
    images, logits, boxes = (torch.cat(part) for part in zip(*parts, strict=True))
    return floor, images, logits, boxes


def _taken(output: Tensor, where: Tensor) -> Tensor:
    """Return ``output[image, a, :, y, x]`` of a level's ``(B, A * C, h, w)`` as ``(N, C)``.

    A CPU is sooner done with one flat selection than with indexing by four tensors.

    Args:
        output: in any layout.
        where: ``(N, 4)`` image, anchor at its place, y and x.
    """
    image, a, y, x = where.unbind(1)
    per_image, per_channel, per_row, per_column = output.stride()
    count = output.shape[1] // ANCHORS_PER_PLACE
    starts = image * per_image + a * (count * per_channel) + y * per_row + x * per_column
    offsets = starts[:, None] + torch.arange(count, device=starts.device) * per_channel
    extent = 1 + sum((n - 1) * s for n, s in zip(output.shape, output.stride(), strict=True))
    flat = output.as_strided((extent,), (1,))
    return flat.index_select(0, offsets.flatten()).view(-1, count)


def _pairs(
    logits: Tensor, one_label: bool, least: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logit, row and label of the best pairs of a picture, from its ``(C, K)`` logits."""
    if one_label:
        values, labels = logits.max(1)
        values, rows = values.topk(min(count, len(values)))
        return values, rows, labels[rows]
    rows, labels = (logits >= least).nonzero(as_tuple=True)
    values, best = logits[rows, labels].topk(min(count, len(rows)))
    return values, rows[best], labels[best]

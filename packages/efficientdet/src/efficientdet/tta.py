"""Test-time augmentation: several views of each picture, fused (official `tf2/wbf.py` and flip)."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from compound.errors import UserError
from efficientdet.postprocess import Detections
from efficientdet.wbf import fuse


@torch.no_grad()
def detect_augmented(
    detect: Callable[[Tensor], list[Detections]],
    images: Tensor,
    *,
    flip: bool = True,
    scales: Sequence[float] = (1.0,),
    score_threshold: float = 0.001,
    max_detections: int = 100,
    fusion_iou: float = 0.55,
) -> list[Detections]:
    """Detect objects in a batch of equally large pictures, each seen in several ways.

    Args:
        detect: one view: maps a batch as ``images``, of any size, to detections in its pixels.
        images: ``(B, 3, H, W)`` uint8.
        flip: whether to see the mirrored pictures as well.
        scales: factors of the pictures' sides; the sides are rounded to whole pixels.
        score_threshold: lowest fused score that is kept.
        max_detections: detections kept of a picture.
        fusion_iou: boxes of several views are one from this overlap on, see `fuse`.

    Returns:
        The detections of each picture, in pixels of ``images``.
    """
    if not scales or not all(scale > 0 for scale in scales):
        raise UserError(f"scales={list(scales)}: expected at least one factor, all above 0")
    views = []
    for scale in scales:
        scaled = _scaled(images, scale)
        for mirrored in (False, True) if flip else (False,):
            pictures = scaled.flip(-1) if mirrored else scaled
            views.append([_restored(d, pictures, images, mirrored) for d in detect(pictures)])
    return [
        fuse(
            of_picture,
            iou=fusion_iou,
            max_detections=max_detections,
            score_threshold=score_threshold,
        )
        for of_picture in zip(*views, strict=True)
    ]


def _scaled(images: Tensor, scale: float) -> Tensor:
    """Resize pictures bilinearly, without antialiasing, as the training pictures were."""
    size = [max(1, round(side * scale)) for side in images.shape[-2:]]
    if size == list(images.shape[-2:]):
        return images
    return F.interpolate(images.float(), size, mode="bilinear", align_corners=False)


def _restored(found: Detections, seen: Tensor, images: Tensor, mirrored: bool) -> Detections:
    """Bring one picture's boxes from the pixels the network saw to those of ``images``."""
    (height, width), (seen_height, seen_width) = images.shape[-2:], seen.shape[-2:]
    x0, y0, x1, y1 = found.boxes_xyxy.unbind(1)
    if mirrored:
        x0, x1 = seen_width - x1, seen_width - x0
    factors = found.boxes_xyxy.new_tensor([width / seen_width, height / seen_height] * 2)
    return found._replace(boxes_xyxy=torch.stack((x0, y0, x1, y1), 1) * factors)

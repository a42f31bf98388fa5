"""Augmentation with albumentations: scale jitter that never resizes what it throws away.

Pictures are ``(H, W, 3)`` uint8 RGB, boxes ``(N, 4)`` float32 xyxy pixels.
"""

from collections.abc import Sequence
from typing import Any

import albumentations as A
import cv2
import numpy as np

# The mean colour in whole numbers. The official code pads with zeros *after* normalising, that
# is with the exact mean; on uint8 pictures this is off by at most 0.4 of 255.
PAD_COLOUR = (124, 116, 104)


class ScaleJitter(A.DualTransform):
    """Scale by a random factor, then crop or pad at the bottom and right to ``size``.

    A factor of 1 makes the whole picture fit. As in the official pipeline the factor is uniform
    and the crop's place random. Other than there the crop comes first and only what is kept gets
    resized, which gives the same pixels up to the rounding of the crop's corners.

    Args:
        size: height and width of the result.
        scale: range of the factor; (1, 1) for evaluation.
    """

    def __init__(self, size: tuple[int, int], scale: tuple[float, float]) -> None:
        super().__init__(p=1.0)
        self.size = size
        self.scale = scale

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Draw the factor and the crop."""
        height, width = params["shape"][:2]
        factor = self.py_random.uniform(*self.scale)
        factor *= min(self.size[0] / height, self.size[1] / width)
        # What is seen of the picture, in its own pixels.
        seen_h = min(height, round(self.size[0] / factor))
        seen_w = min(width, round(self.size[1] / factor))
        top = self.py_random.randint(0, height - seen_h)
        left = self.py_random.randint(0, width - seen_w)
        kept_h = min(self.size[0], max(1, round(seen_h * factor)))
        kept_w = min(self.size[1], max(1, round(seen_w * factor)))
        return {"window": (top, left, seen_h, seen_w), "kept": (kept_h, kept_w)}

    def apply(
        self,
        img: np.ndarray,
        window: tuple[int, int, int, int],
        kept: tuple[int, int],
        **params: Any,
    ) -> np.ndarray:
        """Return the picture, ``(*size, 3)``."""
        top, left, seen_h, seen_w = window
        crop = img[top : top + seen_h, left : left + seen_w]
        if kept != (seen_h, seen_w):
            crop = cv2.resize(crop, (kept[1], kept[0]), interpolation=cv2.INTER_LINEAR)
        out = np.empty((*self.size, 3), np.uint8)
        out[: kept[0], : kept[1]] = crop
        out[kept[0] :] = PAD_COLOUR
        out[: kept[0], kept[1] :] = PAD_COLOUR
        return out

    def apply_to_bboxes(
        self,
        bboxes: np.ndarray,
        window: tuple[int, int, int, int],
        kept: tuple[int, int],
        **params: Any,
    ) -> np.ndarray:
        """Return the boxes as fractions of the result (albumentations' inner convention)."""
        height, width = params["shape"][:2]
        top, left, seen_h, seen_w = window
        bboxes = bboxes.copy()
        for axis, length, start, seen, now, full in (
            (0, width, left, seen_w, kept[1], self.size[1]),
            (1, height, top, seen_h, kept[0], self.size[0]),
        ):
            pixels = (bboxes[:, [axis, axis + 2]] * length - start) * now / seen
            bboxes[:, [axis, axis + 2]] = pixels.clip(0, now) / full
        return bboxes


class Augment:
    """An albumentations pipeline that is told its seed for every picture.

    Left to itself albumentations 2.0.8 replays the same augmentations in every worker and epoch.

    Args:
        size: height and width of the result.
        scale: range of the scale jitter.
        transforms: what comes after it, such as flips and colour. The official code flips before
            it; here a flipped picture has its padding on the left, which costs less than to flip
            pixels that are thrown away.
        min_box: shorter boxes, in pixels of the result, are dropped; officially only empty ones.
    """

    def __init__(
        self,
        size: tuple[int, int],
        *,
        scale: tuple[float, float] = (1.0, 1.0),
        transforms: Sequence[A.BasicTransform] = (),
        min_box: float = 1.0,
    ) -> None:
        self.compose = A.Compose(
            [ScaleJitter(size, scale), *transforms],
            bbox_params=A.BboxParams(
                "pascal_voc",
                label_fields=["labels"],
                min_width=min_box,
                min_height=min_box,
                clip=True,
                filter_invalid_bboxes=True,
            ),
        )

    def __call__(
        self, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, *, seed: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return picture, boxes ``(M, 4)`` float32 and labels ``(M,)`` int64."""
        self.compose.set_random_seed(seed)
        out = self.compose(image=image, bboxes=boxes, labels=labels)
        # Labels come back as floats, no boxes at all as an empty list.
        return (
            out["image"],
            np.asarray(out["bboxes"], np.float32).reshape(-1, 4),
            np.asarray(out["labels"], np.int64).reshape(-1),
        )

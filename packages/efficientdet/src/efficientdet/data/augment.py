"""Augmentation: policies, then scale jitter that never resizes what it throws away, then flips.

Pictures are ``(H, W, 3)`` uint8 RGB, boxes ``(N, 4)`` float32 xyxy pixels.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import albumentations as A
import cv2
import numpy as np
from PIL import Image

from efficientdet.data.autoaugment import Policy
from efficientdet.data.operations import Picture, grid_mask

# ImageNet's mean colour in whole numbers. The official code pads with zeros *after* normalising,
# that is with the exact mean; on uint8 pictures this is off by at most 0.5 of 255.
PAD_COLOUR = (124, 116, 104)
# Keeps the policies' random numbers apart from those that albumentations draws from the same seed.
_POLICY_STREAM = 1


class ScaleJitter(A.DualTransform):
    """Scale by a random factor, then crop or pad at the bottom and right to ``size``.

    A factor of 1 makes the whole picture fit, see `fitted_size`. As in the official pipeline the
    factor is uniform and the crop's place random. Other than there the crop comes first and only
    what is kept gets resized, which gives the same pixels up to the rounding of the crop's corners.

    Args:
        size: height and width of the result.
        scale: range of the factor; (1, 1) for evaluation.
        pad_colour: RGB of what the picture does not cover.
        antialias: whether shrinking looks at every pixel, as Pillow's and effdet's does; the
            official code, and hence its training, looks at four.
    """

    def __init__(
        self,
        size: tuple[int, int],
        scale: tuple[float, float],
        *,
        pad_colour: tuple[int, int, int] = PAD_COLOUR,
        antialias: bool = False,
    ) -> None:
        super().__init__(p=1.0)
        self.size = size
        self.scale = scale
        self.pad_colour = pad_colour
        self.antialias = antialias

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Draw the factor and the crop."""
        height, width = params["shape"][:2]
        if self.scale == (1.0, 1.0):
            kept = fitted_size((height, width), self.size)
            return {"window": (0, 0, height, width), "kept": kept}
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
            crop = _resized(crop, kept, antialias=self.antialias)
        out = np.empty((*self.size, 3), np.uint8)
        out[: kept[0], : kept[1]] = crop
        out[kept[0] :] = self.pad_colour
        out[: kept[0], kept[1] :] = self.pad_colour
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


def fitted_size(source: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of a picture that is scaled until it fits ``size``.

    Fractions of pixels are cut off after a multiplication in float32, as officially
    (`dataloader.py`), so that the longer side may miss its limit by one.
    """
    height, width = np.float32(source[0]), np.float32(source[1])
    factor = min(np.float32(size[0]) / height, np.float32(size[1]) / width)
    return max(1, int(height * factor)), max(1, int(width * factor))


def _resized(image: np.ndarray, size: tuple[int, int], *, antialias: bool) -> np.ndarray:
    width_height = (size[1], size[0])
    if antialias:
        return np.asarray(Image.fromarray(image).resize(width_height, Image.Resampling.BILINEAR))
    return cv2.resize(image, width_height, interpolation=cv2.INTER_LINEAR)


class Augment:
    """Grid mask and policy on the whole picture, scale jitter, and an albumentations pipeline.

    All of it follows from a seed that is told for every picture: left to itself albumentations
    2.0.8 replays the same augmentations in every worker and epoch. The official code flips before
    the jitter; here a flipped picture has its padding on the left, which costs less than to flip
    pixels that are thrown away.

    Args:
        size: height and width of the result.
        scale: range of the scale jitter.
        transforms: what comes after it, such as flips and colour.
        min_box: shorter boxes, in pixels of the result, are dropped; officially only empty ones.
        policy: see `Policy`; None for none.
        magnitude: of RandAugment in place of the policy's own, need not be a whole number.
        grid_mask: probability of `grid_mask`.
        pad_colour: RGB of what the picture does not cover.
        antialias: see `ScaleJitter`.
    """

    def __init__(
        self,
        size: tuple[int, int],
        *,
        scale: tuple[float, float] = (1.0, 1.0),
        transforms: Sequence[A.BasicTransform] = (),
        min_box: float = 1.0,
        policy: str | None = None,
        magnitude: float | None = None,
        grid_mask: float = 0.0,
        pad_colour: tuple[int, int, int] = PAD_COLOUR,
        antialias: bool = False,
    ) -> None:
        self.size = size
        self.scale = scale
        self.pad_colour = pad_colour
        self.policy = None if policy is None else Policy(policy)
        if self.policy is not None and magnitude is not None:
            self.policy.magnitude = magnitude
        self.grid_mask = grid_mask
        jitter = ScaleJitter(size, scale, pad_colour=pad_colour, antialias=antialias)
        # Albumentations ties a transform to its pipeline, hence the copies.
        self.compose = _compose([jitter, *deepcopy(list(transforms))], min_box)
        as_it_is = ScaleJitter(size, (1.0, 1.0), pad_colour=pad_colour)
        self.finishing = _compose([as_it_is, *deepcopy(list(transforms))], min_box)

    def __call__(
        self, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, *, seed: int
    ) -> Picture:
        """Return picture, boxes ``(M, 4)`` float32 and labels ``(M,)`` int64."""
        return _run(self.compose, self.distort(Picture(image, boxes, labels), seed=seed), seed)

    def distort(self, picture: Picture, *, seed: int) -> Picture:
        """Return the picture, as large as it was, after grid mask and policy."""
        if self.policy is None and not self.grid_mask:
            return picture
        rng = np.random.default_rng((seed, _POLICY_STREAM))
        if rng.random() < self.grid_mask:
            picture = picture._replace(image=grid_mask(picture.image, rng))
        return picture if self.policy is None else self.policy(picture, rng)

    def finish(self, picture: Picture, *, seed: int) -> Picture:
        """Return a picture of the right size after the transforms that follow the jitter."""
        return _run(self.finishing, picture, seed)


def _compose(transforms: Sequence[A.BasicTransform], min_box: float) -> A.Compose:
    return A.Compose(
        list(transforms),
        bbox_params=A.BboxParams(
            "pascal_voc",
            label_fields=["labels"],
            min_width=min_box,
            min_height=min_box,
            clip=True,
            filter_invalid_bboxes=True,
        ),
    )


def _run(compose: A.Compose, picture: Picture, seed: int) -> Picture:
    compose.set_random_seed(seed)
    # Albumentations gives all of them the same one, so that only small scales would be flipped.
    for position, transform in enumerate(compose.transforms):
        transform.set_random_seed(seed + position * 2**31)
    out = compose(image=picture.image, bboxes=picture.boxes, labels=picture.labels)
    # Labels come back as floats, no boxes at all as an empty list.
    return Picture(
        out["image"],
        np.asarray(out["bboxes"], np.float32).reshape(-1, 4),
        np.asarray(out["labels"], np.int64).reshape(-1),
    )

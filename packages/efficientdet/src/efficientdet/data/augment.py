"""Augmentation: policies, then scale jitter that never resizes what it throws away, then flips.

Pictures are ``(H, W, 3)`` uint8 RGB, boxes ``(N, 4)`` float32 xyxy pixels.
"""

import random
from collections.abc import Sequence

import albumentations as A
import cv2
import numpy as np
from PIL import Image

from compound.data.images import Box, Decoded, Source, all_of
from compound.data.transforms import SeededTransforms, seed_of
from efficientdet.data.autoaugment import Policy
from efficientdet.data.operations import Picture, grid_mask

# ImageNet's mean colour in whole numbers. The official code pads with zeros *after* normalising,
# that is with the exact mean; on uint8 pictures this is off by at most 0.5 of 255.
PAD_COLOUR = (124, 116, 104)
# Keeps the policies' random numbers apart from those that albumentations draws from the same seed.
_POLICY_STREAM = 1


class ScaleJitter:
    """Scale by a random factor, then crop or pad at the bottom and right to ``size``.

    A factor of 1 makes the whole picture fit, see `fitted_size`. As in the official pipeline the
    factor is uniform and the crop's place random. Other than there the crop comes first and only
    what is kept gets decoded and resized, which gives the same pixels up to the rounding of the
    crop's corners. Decoding at a reduced scale would gain a few percent, but give other pixels
    than the official resizing, which looks at four of them however much it shrinks.

    Args:
        size: height and width of the result.
        scale: range of the factor; (1, 1) for evaluation, which decodes as Pillow does.
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
        self.size = size
        self.scale = scale
        self.pad_colour = pad_colour
        self.antialias = antialias

    def __call__(
        self, source: Source, boxes: np.ndarray, *, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the picture, ``(*size, 3)``, and all of the boxes, some of them maybe empty."""
        if self.scale == (1.0, 1.0):
            image = source.whole()
            box, kept = (0, 0, image.shape[1], image.shape[0]), fitted_size(source.size, self.size)
        else:
            box, kept = self._drawn(source.size, random.Random(seed))
            image = source.window(box, (box[3] - box[1], box[2] - box[0]))
        out = np.empty((*self.size, 3), np.uint8)
        _resize_into(out[: kept[0], : kept[1]], image, antialias=self.antialias)
        out[kept[0] :] = self.pad_colour
        out[: kept[0], kept[1] :] = self.pad_colour
        left, top, right, bottom = box
        ratio = np.array([kept[1] / (right - left), kept[0] / (bottom - top)] * 2)
        limits = [kept[1], kept[0]] * 2
        return out, ((boxes - [left, top, left, top]) * ratio).clip(0, limits).astype(np.float32)

    def _drawn(self, source: tuple[int, int], rng: random.Random) -> tuple[Box, tuple[int, int]]:
        """Return what is seen of a picture of that size, and the size at which it is seen."""
        height, width = source
        factor = rng.uniform(*self.scale)
        factor *= min(self.size[0] / height, self.size[1] / width)
        seen_h = min(height, round(self.size[0] / factor))
        seen_w = min(width, round(self.size[1] / factor))
        top, left = rng.randint(0, height - seen_h), rng.randint(0, width - seen_w)
        kept_h = min(self.size[0], max(1, round(seen_h * factor)))
        kept_w = min(self.size[1], max(1, round(seen_w * factor)))
        return (left, top, left + seen_w, top + seen_h), (kept_h, kept_w)


def fitted_size(source: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of a picture that is scaled until it fits ``size``.

    Fractions of pixels are cut off after a multiplication in float32, as officially
    (`dataloader.py`), so that the longer side may miss its limit by one.
    """
    height, width = np.float32(source[0]), np.float32(source[1])
    factor = min(np.float32(size[0]) / height, np.float32(size[1]) / width)
    return max(1, int(height * factor)), max(1, int(width * factor))


def _resize_into(out: np.ndarray, image: np.ndarray, *, antialias: bool) -> None:
    width_height = (out.shape[1], out.shape[0])
    if out.shape == image.shape:
        out[:] = image
    elif antialias:
        out[:] = Image.fromarray(image).resize(width_height, Image.Resampling.BILINEAR)
    else:
        cv2.resize(image, width_height, dst=out, interpolation=cv2.INTER_LINEAR)


class Augment:
    """Grid mask and policy on the whole picture, scale jitter, and albumentations' transforms.

    All of it follows from the seed of a picture. The official code flips before the jitter; here a
    flipped picture has its padding on the left, which costs less than to flip pixels that are
    thrown away.

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
        self.jitter = ScaleJitter(size, scale, pad_colour=pad_colour, antialias=antialias)
        self.min_box = min_box
        self.transforms = list(transforms)
        simple = all(type(transform) is A.HorizontalFlip for transform in self.transforms)
        self.pipeline = (
            None if simple else SeededTransforms(transforms, bbox_params=_boxes(min_box))
        )

    def __call__(
        self, source: Source, boxes: np.ndarray, labels: np.ndarray, *, seed: int
    ) -> Picture:
        """Return picture, boxes ``(M, 4)`` float32 and labels ``(M,)`` int64."""
        if self.policy is not None or self.grid_mask:
            picture = Picture(all_of(source), boxes, labels)
            image, boxes, labels = self.distort(picture, seed=seed)
            source = Decoded(image)
        image, boxes = self.jitter(source, boxes, seed=seed)
        return self.finish(Picture(image, boxes, labels), seed=seed)

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
        boxes = picture.boxes
        large = (boxes[:, 2:] - boxes[:, :2] >= self.min_box).all(axis=1)
        picture = Picture(picture.image, boxes[large], picture.labels[large])
        if self.pipeline is not None:
            columns = {"image": picture.image, "bboxes": picture.boxes, "labels": picture.labels}
            out = self.pipeline(seed=seed, **columns)
            # Labels come back as floats, no boxes at all as an empty list.
            return Picture(
                out["image"],
                np.asarray(out["bboxes"], np.float32).reshape(-1, 4),
                np.asarray(out["labels"], np.int64).reshape(-1),
            )
        # Flips alone: the same, without the half a millisecond that a pipeline takes.
        for i, flip in enumerate(self.transforms):
            if random.Random(seed_of(i, seed)).random() < flip.p:
                picture = _flipped(picture)
        return picture


def _boxes(min_box: float) -> A.BboxParams:
    return A.BboxParams(
        "pascal_voc",
        label_fields=["labels"],
        min_width=min_box,
        min_height=min_box,
        clip=True,
        filter_invalid_bboxes=True,
    )


def _flipped(picture: Picture) -> Picture:
    image, boxes, labels = picture
    width = image.shape[1]
    boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)
    return Picture(cv2.flip(image, 1), boxes, labels)

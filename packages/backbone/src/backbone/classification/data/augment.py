"""From a picture to the network's input: crops, flips, AutoAugment and RandAugment.

What comes out is ``(S, S, 3)`` uint8 RGB. Crops are drawn before anything is decoded, so that
nothing is decoded or resized in vain.
"""

import math
import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import (
    RandAugment,
    augment_and_mix_transform,
    auto_augment_transform,
    posterize,
    rand_augment_transform,
)
from torch.nn import functional as F

from backbone.classification.data.warps import WARPS
from backbone.specs import Interpolation
from compound.data.images import Box, Source
from compound.errors import UserError

if TYPE_CHECKING:
    from albumentations import BaseCompose, BasicTransform

_RESAMPLE = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
# How often a crop is drawn that sticks out of the picture, as in torchvision.
NUM_TRIES = 10
# What the official policies fill with.
GREY = (128, 128, 128)
# A key with a number, or RandAugment's set of operations.
_SECTION = re.compile(r"(?!t)[a-z]+\d+(\.\d+)?|t(weights|3a|3aw)")


class TrainTransform:
    """A random crop, resized; a flip; a policy; a hole (arXiv:1905.11946, Sec. 5.2); transforms.

    The crop's area and aspect are drawn as torchvision does; the official code also asks it to
    hold a tenth of the picture, which any crop of 8 % nearly does. A crop twice as large as the
    result or more is decoded at half of its size or less, see `Jpeg`.

    timm's policies differ from the official ones: translations are shares of the picture, not 250
    pixels; RandAugment leaves out Cutout, skips each operation half of the time unless told
    ``p1``, and ends magnitudes at 10 unless told ``mmax``. ``rand-m28-n2-mmax28-p1`` is the
    nearest to the official one of B7. They warp by OpenCV, see `warps`.

    Args:
        size: side of the result in pixels.
        interpolation: of the resizing.
        scale: range of the crop's area, as a share of the picture; None squashes all of it.
        ratio: range of its aspect, width over height.
        flip: probability of a horizontal flip.
        policy: a policy in timm's words, such as ``v0`` (AutoAugment's) or ``rand-m10-n2``
            (RandAugment with magnitude 10, two operations) or ``augmix-m3``; None for none.
        cutout: half the side of `cut_out`'s hole, as a share of the size; 0 is off.
        magnitude: of RandAugment in place of the policy's own, need not be a whole number.
        transforms: of albumentations, applied last.

    Raises:
        UserError: timm does not know the policy, or a transform does not fit.
    """

    def __init__(
        self,
        size: int,
        *,
        interpolation: Interpolation,
        scale: Sequence[float] | None = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        flip: float = 0.5,
        policy: str | None = None,
        cutout: float = 0.0,
        magnitude: float | None = None,
        transforms: "Sequence[BasicTransform | BaseCompose]" = (),
    ) -> None:
        self.size = size
        self.interpolation: Interpolation = interpolation
        self.scale = scale
        self.ratio = ratio
        self.flip = flip
        self.cutout = int(cutout * size)
        self.policy = _policy(policy)
        if magnitude is not None and isinstance(self.policy, RandAugment):
            for operation in self.policy.ops:
                operation.magnitude = magnitude
        self.transforms = None
        if transforms:
            # Albumentations takes seconds to import, and most training runs do without it.
            from compound.data.transforms import SeededTransforms

            self.transforms = SeededTransforms(transforms)
            self.transforms.check_images(size)

    def __call__(self, source: Source, *, seed: int) -> np.ndarray:
        """Return ``(size, size, 3)``; all that is random follows from the seed."""
        rng = random.Random(seed)
        box = self._box(source.size, rng)
        flip = rng.random() < self.flip
        window = source.window(box, (self.size, self.size))
        # Copied either way: it is a part of a larger picture, which torch would copy, too.
        image = cv2.flip(window, 1) if flip else np.array(window)
        image = _resized_quickly(image, self.size, self.interpolation)
        if self.policy is not None:
            with seeded(rng.getrandbits(32)):
                image = np.array(self.policy(Image.fromarray(image)))
        if self.cutout:
            cut_out(image, self.cutout, rng)
        return (
            image if self.transforms is None else self.transforms(seed=seed, image=image)["image"]
        )

    def _box(self, size: tuple[int, int], rng: random.Random) -> Box:
        height, width = size
        if self.scale is None:
            return (0, 0, width, height)
        low, high = (math.log(ratio) for ratio in self.ratio)
        for _ in range(NUM_TRIES):
            area = height * width * rng.uniform(*self.scale)
            aspect = math.exp(rng.uniform(low, high))
            crop_w, crop_h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < crop_w <= width and 0 < crop_h <= height:
                left, top = rng.randint(0, width - crop_w), rng.randint(0, height - crop_h)
                return left, top, left + crop_w, top + crop_h
        # The most of the picture that has an allowed aspect, from its middle.
        aspect = min(max(width / height, self.ratio[0]), self.ratio[1])
        crop_w, crop_h = min(width, round(height * aspect)), min(height, round(width / aspect))
        left, top = (width - crop_w) // 2, (height - crop_h) // 2
        return left, top, left + crop_w, top + crop_h


class EvalTransform:
    """The centre square, or the whole picture squashed (official `preprocessing.py`).

    Pillow's filters look at every pixel when they shrink; the official code's do not.

    Args:
        size: side of the result in pixels.
        interpolation: of the resizing.
        crop: share of the short side that is kept; None keeps all and squashes it.
    """

    def __init__(self, size: int, *, interpolation: Interpolation, crop: float | None) -> None:
        self.size = size
        self.resample = _RESAMPLE[interpolation]
        self.crop = crop

    def __call__(self, source: Source, *, seed: int) -> np.ndarray:
        """Return ``(size, size, 3)``; nothing is random."""
        image = source.whole()
        height, width = image.shape[:2]
        box = (0, 0, width, height)
        if self.crop is not None:
            # Whole pixels, an odd one left over above and to the left, as officially.
            side = max(1, int(self.crop * min(height, width)))
            left, top = (width - side + 1) // 2, (height - side + 1) // 2
            box = (left, top, left + side, top + side)
        # With ``resize(box=...)`` the crop's edges would mix with what is cut off.
        crop = Image.fromarray(image).crop(box)
        return np.asarray(crop.resize((self.size, self.size), self.resample))


def magnitude(policy: str | None) -> float:
    """Return RandAugment's magnitude; nothing if the policy is another."""
    built = _policy(policy)
    return float(built.ops[0].magnitude) if isinstance(built, RandAugment) else 0.0


def cut_out(image: np.ndarray, half_side: int, rng: random.Random) -> None:
    """Fill a square around a random pixel with noise, in place (official ``cutout``).

    Officially the noise is uniform in 0..1 of pixels that are normalised to -1..1.
    """
    height, width = image.shape[:2]
    row, column = rng.randrange(height), rng.randrange(width)
    rows = slice(max(0, row - half_side), row + half_side)
    columns = slice(max(0, column - half_side), column + half_side)
    hole = image[rows, columns]
    noise = np.random.default_rng(rng.getrandbits(32))
    hole[:] = noise.integers(128, 256, hole.shape, np.uint8)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed Python's and numpy's global generators, and put them back as they were.

    timm's policies draw from both, which without worker processes are the training's.
    """
    kept = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002


def _resized_quickly(image: np.ndarray, size: int, interpolation: Interpolation) -> np.ndarray:
    """Return the picture as Pillow would resize it, in a fifth of the time.

    The same up to two units, but that Pillow resizes rows before columns if that is less work, so
    that bicubic overshoots at hard edges are cut off at another moment.
    """
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    resized = F.interpolate(pixels, (size, size), mode=interpolation, antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


def _adapted(policy: Any) -> Any:
    """Return the policy with quick warps and a posterisation that leaves one bit at least.

    timm leaves none at some magnitudes, which Pillow refuses; TensorFlow's shifts leave one.
    """
    lists = [policy.ops] if hasattr(policy, "ops") else policy.policy
    for operation in (operation for operations in lists for operation in operations):
        operation.aug_fn = _REPLACED.get(operation.aug_fn, operation.aug_fn)
    return policy


def _posterized(picture: Image.Image, bits: int, **settings: Any) -> Image.Image:
    return posterize(picture, max(1, bits), **settings)


_REPLACED = WARPS | {posterize: _posterized}


def _policy(text: str | None):  # noqa: ANN202  timm's classes share no type
    if text is None:
        return None
    families = {"rand": rand_augment_transform, "augmix": augment_and_mix_transform}
    make = families.get(text.split("-")[0], auto_augment_transform)
    try:
        if not all(_SECTION.fullmatch(section) for section in text.split("-")[1:]):
            raise ValueError("timm would pass over this section in silence")
        return _adapted(make(text, {"img_mean": GREY}))
    except (AssertionError, ValueError, KeyError, IndexError) as error:
        raise UserError(
            f"data.policy={text} is unknown; AutoAugment's are v0, v0r, original, originalr and "
            "3a, RandAugment's such as rand-m10-n2, AugMix's such as augmix-m3"
        ) from error

"""From a decoded picture to the network's input: crops, flips, AutoAugment and RandAugment.

Pictures are ``(H, W, 3)`` uint8 RGB. Every crop and its resizing are one step, so that nothing is
resized that is thrown away.
"""

import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import (
    RandAugment,
    augment_and_mix_transform,
    auto_augment_transform,
    rand_augment_transform,
)
from torchvision.transforms import RandomResizedCrop

from backbone.errors import UserError
from backbone.specs import Interpolation

_RESAMPLE = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
# What the official policies fill with.
GREY = (128, 128, 128)
# A key with a number, or RandAugment's set of operations.
_SECTION = re.compile(r"(?!t)[a-z]+\d+(\.\d+)?|t(weights|3a|3aw)")


class TrainTransform:
    """A random crop, resized; a flip; a policy; a hole (arXiv:1905.11946, Sec. 5.2).

    The crop's area and aspect are drawn as torchvision does, ten times at most; the official
    code also asks it to hold a tenth of the picture, which any crop of 8 % nearly does.

    timm's policies differ from the official ones: translations are shares of the picture, not 250
    pixels; RandAugment leaves out Cutout, skips each operation half of the time unless told
    ``p1``, and ends magnitudes at 10 unless told ``mmax``. ``rand-m28-n2-mmax28-p1`` is the
    nearest to the official one of B7.

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

    Raises:
        UserError: timm does not know the policy.
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
    ) -> None:
        self.size = size
        self.resample = _RESAMPLE[interpolation]
        self.scale = scale
        self.ratio = list(ratio)
        self.flip = flip
        self.cutout = int(cutout * size)
        self.policy = _policy(policy)
        if magnitude is not None and isinstance(self.policy, RandAugment):
            for operation in self.policy.ops:
                operation.magnitude = magnitude

    def __call__(self, image: np.ndarray, *, seed: int) -> np.ndarray:
        """Return ``(size, size, 3)``; all that is random follows from the seed."""
        picture = Image.fromarray(image)
        with seeded(seed):
            box = self._box(picture)
            flip = random.random() < self.flip
            picture = _resized(picture, box, self.size, self.resample)
            if flip:
                picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            if self.policy is not None:
                picture = self.policy(picture)
            if self.cutout:
                return cut_out(np.array(picture), self.cutout)
        return np.asarray(picture)

    def _box(self, picture: Image.Image) -> tuple[int, int, int, int]:
        if self.scale is None:
            return (0, 0, *picture.size)
        top, left, height, width = RandomResizedCrop.get_params(
            picture,  # pyright: ignore[reportArgumentType]
            list(self.scale),
            self.ratio,
        )
        return left, top, left + width, top + height


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

    def __call__(self, image: np.ndarray, *, seed: int) -> np.ndarray:
        """Return ``(size, size, 3)``; nothing is random."""
        height, width = image.shape[:2]
        box = (0, 0, width, height)
        if self.crop is not None:
            # Whole pixels, an odd one left over above and to the left, as officially.
            side = max(1, int(self.crop * min(height, width)))
            left, top = (width - side + 1) // 2, (height - side + 1) // 2
            box = (left, top, left + side, top + side)
        return np.asarray(_resized(Image.fromarray(image), box, self.size, self.resample))


def magnitude(policy: str | None) -> float:
    """Return RandAugment's magnitude; nothing if the policy is another."""
    built = _policy(policy)
    return float(built.ops[0].magnitude) if isinstance(built, RandAugment) else 0.0


def cut_out(image: np.ndarray, half_side: int) -> np.ndarray:
    """Fill a square around a random pixel with noise, in place (official ``cutout``).

    Officially the noise is uniform in 0..1 of pixels that are normalised to -1..1.
    """
    height, width = image.shape[:2]
    row, column = random.randrange(height), random.randrange(width)
    rows = slice(max(0, row - half_side), row + half_side)
    columns = slice(max(0, column - half_side), column + half_side)
    hole = image[rows, columns]
    hole[:] = np.random.randint(128, 256, hole.shape)  # noqa: NPY002  `seeded` seeds this one
    return image


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed Python's, numpy's and torch's generators, and put them back as they were.

    timm and torchvision draw from all three, which without worker processes are the training's.
    """
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    # Not `torch.manual_seed`, which seeds the GPUs too.
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
        torch.set_rng_state(kept[2])


def _resized(
    picture: Image.Image, box: tuple[int, int, int, int], size: int, resample: Image.Resampling
) -> Image.Image:
    """Return a crop, resized; with ``resize(box=...)`` its edges would mix with what is cut off."""
    return picture.crop(box).resize((size, size), resample)


def _policy(text: str | None):  # noqa: ANN202  timm's classes share no type
    if text is None:
        return None
    families = {"rand": rand_augment_transform, "augmix": augment_and_mix_transform}
    make = families.get(text.split("-")[0], auto_augment_transform)
    try:
        if not all(_SECTION.fullmatch(section) for section in text.split("-")[1:]):
            raise ValueError("timm would pass over this section in silence")
        return make(text, {"img_mean": GREY})
    except (AssertionError, ValueError, KeyError, IndexError) as error:
        raise UserError(
            f"data.policy={text} is unknown; AutoAugment's are v0, v0r, original, originalr and "
            "3a, RandAugment's such as rand-m10-n2, AugMix's such as augmix-m3"
        ) from error

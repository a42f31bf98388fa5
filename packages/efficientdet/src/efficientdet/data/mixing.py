"""Training pictures made of several: mosaic, mixup and copy-paste.

The other pictures and all that is random follow from the seed of the draw. The way of a picture
is copy-paste, grid mask and policy, jitter or mosaic, the transforms after it, and then mixup.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from compound.data.images import Decoded
from compound.data.sampler import Draw
from efficientdet.data.augment import Augment
from efficientdet.data.operations import Picture, pixel_box, within

# Where a mosaic's four pictures may meet, as shares of its sides (official `mosaic.py`).
CENTRE = (0.25, 0.75)
# Ultralytics' YOLO: both pictures are nearly equally visible, and all boxes of both count fully.
MIXUP_BETA = 32.0
# A pasted object's sides are at most this share of the picture's.
MAX_PASTED = 0.5
# Boxes of which more than this share lies under pasted ones are dropped.
MAX_HIDDEN = 0.7
# Keeps these random numbers apart from those of the augmentation, which has the same seed.
_STREAM = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixing:
    """Which pictures are made of several.

    Attributes:
        mosaic: probability of a mosaic of four pictures.
        mixup: probability that another picture shines through.
        copy_paste: probability that objects of another picture are pasted into one.
        closed_from: the epoch from which on there is none of it; None if there is always.
    """

    mosaic: float = 0.0
    mixup: float = 0.0
    copy_paste: float = 0.0
    closed_from: int | None = None

    def acts_in(self, epoch: int) -> bool:
        """Return whether pictures may be mixed in an epoch."""
        open_yet = self.closed_from is None or epoch < self.closed_from
        return open_yet and max(self.mosaic, self.mixup, self.copy_paste) > 0

    def __call__(
        self, draw: Draw, read: Callable[[int], Picture], num_pictures: int, augment: Augment
    ) -> Picture:
        """Return the network's input for a draw.

        Args:
            draw: which picture, and the seed.
            read: returns a picture of the data set as it is stored.
            num_pictures: how many there are.
            augment: what happens to each of them.
        """
        rng = np.random.default_rng((draw.seed, _STREAM))

        def source(index: int) -> Picture:
            picture = read(index)
            if rng.random() < self.copy_paste:
                picture = copy_paste(picture, read(int(rng.integers(num_pictures))), rng)
            return picture

        def another() -> tuple[Picture, int]:
            return source(int(rng.integers(num_pictures))), int(rng.integers(2**31))

        picture = source(draw.index)
        if rng.random() < self.mosaic:
            drawn = [(picture, draw.seed), *(another() for _ in range(3))]
            four = [augment.distort(part, seed=seed) for part, seed in drawn]
            canvas = mosaic(four, augment.size, augment.scale, rng)
            picture = augment.finish(canvas, seed=draw.seed)
        else:
            picture = _augmented(picture, augment, draw.seed)
        if rng.random() < self.mixup:
            second, seed = another()
            share = float(rng.beta(MIXUP_BETA, MIXUP_BETA))
            picture = mixup(picture, _augmented(second, augment, seed), share)
        return picture


def mosaic(
    pictures: Sequence[Picture],
    size: tuple[int, int],
    scale: tuple[float, float],
    rng: np.random.Generator,
) -> Picture:
    """Return four pictures around a random centre, which fill ``size``, height and width.

    The official code, which no official recipe uses, squeezes whole pictures into the quarters.
    Here each keeps its aspect and is jittered as if alone, but always fills its quarter, from
    which it sticks out at random.
    """
    height, width = size
    y, x = (int(rng.uniform(*CENTRE) * side) for side in size)
    canvas = np.empty((height, width, 3), np.uint8)
    parts = []
    quarters = ((0, 0, y, x), (0, x, y, width), (y, 0, height, x), (y, x, height, width))
    for picture, (top, left, bottom, right) in zip(pictures, quarters, strict=True):
        part = _fill(canvas[top:bottom, left:right], picture, size, rng.uniform(*scale), rng)
        parts.append(part._replace(boxes=part.boxes + np.array([left, top] * 2)))
    boxes = np.concatenate([part.boxes for part in parts])
    return Picture(canvas, boxes, np.concatenate([part.labels for part in parts]))


def mixup(first: Picture, second: Picture, share: float) -> Picture:
    """Return ``share`` of the first and the rest of the second, with the objects of both."""
    image = cv2.addWeighted(first.image, share, second.image, 1 - share, 0)
    boxes = np.concatenate([first.boxes, second.boxes])
    return Picture(image, boxes, np.concatenate([first.labels, second.labels]))


def copy_paste(picture: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Return the picture with about half of another's objects, at least one, at random places.

    After arXiv:2012.07177, with boxes in place of masks: an object comes with its background.
    """
    if not len(other.boxes):
        return picture
    chosen = np.flatnonzero(rng.random(len(other.boxes)) < 0.5)
    if not len(chosen):
        chosen = rng.integers(len(other.boxes), size=1)
    image = picture.image.copy()
    # Of which pasted object each pixel is, from 1 on; 0 is none.
    owner = np.zeros(image.shape[:2], np.int32)
    pasted, areas = np.empty((len(chosen), 4)), np.empty(len(chosen))
    for row, i in enumerate(chosen):
        crop, box = _crop(other, int(i), image.shape)
        top = int(rng.integers(image.shape[0] - crop.shape[0] + 1))
        left = int(rng.integers(image.shape[1] - crop.shape[1] + 1))
        place = np.s_[top : top + crop.shape[0], left : left + crop.shape[1]]
        image[place], owner[place] = crop, row + 1
        pasted[row], areas[row] = box + np.array([left, top] * 2), crop.shape[0] * crop.shape[1]
    seen = np.bincount(owner.ravel(), minlength=len(chosen) + 1)[1:]
    front = seen >= (1 - MAX_HIDDEN) * areas
    visible = _hidden_share(owner > 0, picture.boxes) <= MAX_HIDDEN
    boxes = np.concatenate([picture.boxes[visible], pasted[front]])
    labels = np.concatenate([picture.labels[visible], other.labels[chosen][front]])
    return Picture(image, boxes, labels)


def _augmented(picture: Picture, augment: Augment, seed: int) -> Picture:
    return augment(Decoded(picture.image), picture.boxes, picture.labels, seed=seed)


def _fill(
    quarter: np.ndarray,
    picture: Picture,
    size: tuple[int, int],
    factor: float,
    rng: np.random.Generator,
) -> Picture:
    """Fill a quarter with a part of a picture and return it; a factor of 1 fits it to ``size``."""
    height, width = picture.image.shape[:2]
    out_h, out_w = quarter.shape[:2]
    factor *= min(size[0] / height, size[1] / width)
    factor = max(factor, out_h / height, out_w / width)
    seen_h = min(height, max(1, round(out_h / factor)))
    seen_w = min(width, max(1, round(out_w / factor)))
    top = int(rng.integers(height - seen_h + 1))
    left = int(rng.integers(width - seen_w + 1))
    crop = picture.image[top : top + seen_h, left : left + seen_w]
    quarter[:] = cv2.resize(crop, (out_w, out_h), interpolation=cv2.INTER_LINEAR)
    ratio = np.array([out_w / seen_w, out_h / seen_h] * 2)
    boxes = (picture.boxes - [left, top, left, top]) * ratio
    return within(Picture(quarter, boxes, picture.labels))


def _crop(picture: Picture, i: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels of object ``i`` and its box in them, shrunk for a picture of ``shape``."""
    left, top, right, bottom = pixel_box(picture.boxes[i], picture.image.shape)
    crop = picture.image[top:bottom, left:right]
    box = picture.boxes[i] - [left, top, left, top]
    height, width = bottom - top, right - left
    factor = min(1.0, MAX_PASTED * shape[0] / height, MAX_PASTED * shape[1] / width)
    if factor < 1:
        new_w, new_h = max(1, int(width * factor)), max(1, int(height * factor))
        crop = cv2.resize(crop, (new_w, new_h), interpolation=cv2.INTER_AREA)
        box = box * ([new_w / width, new_h / height] * 2)
    return crop, box


def _hidden_share(mask: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return ``(N,)``: the share of each box's pixels that are set in a mask ``(H, W)``."""
    sums = cv2.integral(mask.astype(np.uint8))
    corners = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1)
    left, top, right, bottom = corners.astype(np.int64).T
    inside = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return inside / ((bottom - top) * (right - left))

"""What the detection policies do to a picture and its boxes (arXiv:1906.11172, Sec. 3.2).

As in google/automl's ``efficientdet/aug/autoaugment.py``: nearest neighbours, grey where nothing
is left. Other than there

- boxes keep fractions of pixels, and one that leaves the picture or becomes flat is dropped;
  officially it becomes a sliver of a twentieth of the picture at the border;
- an operation within a box ends at its last pixel, officially one behind it;
- colours are Pillow's, whose contrast turns around the picture's mean; the official code's turns
  around its number of pixels / 256, which is white for all but tiny pictures.

No function changes what it is given. Shapes: H, W = the picture, N = its boxes.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageEnhance, ImageOps

FILL = 128
# Official `gridmask.py`: the share of a period that is kept, and the grid's turn in degrees.
GRID_RATIO = 0.6
GRID_TURN = 10.0


class Picture(NamedTuple):
    """A picture with its objects.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB.
        boxes: ``(N, 4)`` xyxy in pixels of ``image``.
        labels: ``(N,)`` int64, 0..K-1.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray


def warp(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return the pixels after an affine map, ``(2, 3)`` from old to new indices."""
    return cv2.warpAffine(
        image,
        matrix,
        (image.shape[1], image.shape[0]),
        flags=cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(FILL, FILL, FILL),
    )


def warp_with_boxes(picture: Picture, matrix: np.ndarray) -> Picture:
    """Return pixels and boxes after an affine map; a box encloses its four moved corners."""
    image, boxes, labels = picture
    # The map is one of indices, which are half a pixel less than where the pixels' centres are.
    corners = boxes[:, [0, 1, 2, 1, 0, 3, 2, 3]].reshape(-1, 4, 2) - 0.5
    corners = corners @ matrix[:, :2].T + matrix[:, 2] + 0.5
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    return within(Picture(warp(image, matrix), boxes, labels))


def within(picture: Picture) -> Picture:
    """Return the picture with boxes clipped to it, without those of which nothing is left."""
    image, boxes, labels = picture
    height, width = image.shape[:2]
    boxes = boxes.clip(0, [width, height, width, height])
    keep = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    return Picture(image, boxes[keep], labels[keep])


def rotation(shape: tuple[int, ...], degrees: float) -> np.ndarray:
    """Return the map that turns around the centre; positive degrees are counter-clockwise."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    return np.array([[cos, sin, x - cos * x - sin * y], [-sin, cos, y + sin * x - cos * y]])


def shear_x(shape: tuple[int, ...], level: float) -> np.ndarray:
    """Return the map that moves each row by ``-level`` times its index."""
    return np.array([[1.0, -level, 0.0], [0.0, 1.0, 0.0]])


def shear_y(shape: tuple[int, ...], level: float) -> np.ndarray:
    """Return the map that moves each column by ``-level`` times its index."""
    return np.array([[1.0, 0.0, 0.0], [-level, 1.0, 0.0]])


def translate_x(shape: tuple[int, ...], pixels: float) -> np.ndarray:
    """Return the map that moves by ``-pixels`` to the right."""
    return np.array([[1.0, 0.0, -pixels], [0.0, 1.0, 0.0]])


def translate_y(shape: tuple[int, ...], pixels: float) -> np.ndarray:
    """Return the map that moves by ``-pixels`` downwards."""
    return np.array([[1.0, 0.0, 0.0], [0.0, 1.0, -pixels]])


def cutout(image: np.ndarray, half: int, rng: np.random.Generator) -> np.ndarray:
    """Return the picture with a grey square of side ``2 * half`` somewhere."""
    height, width = image.shape[:2]
    return _blanked(image, int(rng.integers(height)), int(rng.integers(width)), half, half)


def cutout_at_box(
    image: np.ndarray, boxes: np.ndarray, share: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the picture with a grey rectangle, ``share`` of a random box, centred in that box."""
    if not len(boxes):
        return image
    left, top, right, bottom = pixel_box(boxes[rng.integers(len(boxes))], image.shape)
    y, x = int(rng.integers(top, bottom)), int(rng.integers(left, right))
    half_h, half_w = int(share * (bottom - top) / 2), int(share * (right - left) / 2)
    return _blanked(image, y, x, half_h, half_w)


def change_in_boxes(
    picture: Picture,
    change: Callable[[np.ndarray], np.ndarray],
    probability: float,
    rng: np.random.Generator,
) -> Picture:
    """Return the picture with ``change`` applied within some of the boxes, in random order.

    The boxes stay. Each is chosen with a third of ``probability``, lest pictures full of objects
    be distorted everywhere.
    """
    image, boxes, labels = picture
    chosen = np.flatnonzero(rng.random(len(boxes)) < probability / 3)
    if not len(chosen):
        return picture
    image = image.copy()
    for i in rng.permutation(chosen):
        left, top, right, bottom = pixel_box(boxes[i], image.shape)
        image[top:bottom, left:right] = change(image[top:bottom, left:right])
    return Picture(image, boxes, labels)


def grid_mask(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the picture with the squares of a slightly turned grid blackened (arXiv:2001.04086).

    The official code has two slips, which are mended: its lines begin at a random offset rather
    than before it, so that the outer squares are larger, and it wants the grid with a normally
    distributed number below the probability, that is at 0.5 in 69 % of the pictures.
    """
    height, width = image.shape[:2]
    low, high = sorted((int(height * 0.5), int(width * 0.3)))
    period = max(2, int(rng.integers(low, high + 1)))
    line = min(max(int(period * GRID_RATIO + 0.5), 1), period - 1)
    # So much larger than the picture that turning it leaves no corner empty.
    indices = np.arange(int(1.5 * max(height, width)))
    rows, columns = ((indices - rng.integers(period)) % period < line for _ in range(2))
    mask = (rows[:, None] | columns).astype(np.uint8)
    turn = rotation(mask.shape, GRID_TURN * rng.normal(-1, 1))
    turn[:, 2] -= (len(indices) - width) // 2, (len(indices) - height) // 2
    mask = cv2.warpAffine(mask, turn, (width, height), flags=cv2.INTER_NEAREST)
    return cv2.bitwise_and(image, image, mask=mask)


def autocontrast(image: np.ndarray) -> np.ndarray:
    """Return the picture with each channel stretched to 0..255."""
    return np.asarray(ImageOps.autocontrast(Image.fromarray(image)))


def equalize(image: np.ndarray) -> np.ndarray:
    """Return the picture with each channel's histogram made flat."""
    return np.asarray(ImageOps.equalize(Image.fromarray(image)))


def posterize(image: np.ndarray, bits: int) -> np.ndarray:
    """Return the picture with ``bits`` of each value; at least one, to which TensorFlow clamps."""
    return image & np.uint8(256 - (1 << (8 - max(1, bits))))


def solarize(image: np.ndarray, threshold: int) -> np.ndarray:
    """Return the picture with what is not below the threshold inverted."""
    values = np.arange(256)
    return cv2.LUT(image, np.where(values < threshold, values, 255 - values).astype(np.uint8))


def solarize_add(image: np.ndarray, addition: int) -> np.ndarray:
    """Return the picture with what is below 128 made brighter."""
    values = np.arange(256)
    brighter = (values + addition).clip(0, 255)
    return cv2.LUT(image, np.where(values < 128, brighter, values).astype(np.uint8))


def color(image: np.ndarray, factor: float) -> np.ndarray:
    """Return the picture between grey (0) and itself (1), or beyond."""
    return np.asarray(ImageEnhance.Color(Image.fromarray(image)).enhance(factor))


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Return the picture between its mean grey (0) and itself (1), or beyond."""
    return np.asarray(ImageEnhance.Contrast(Image.fromarray(image)).enhance(factor))


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Return the picture between black (0) and itself (1), or beyond."""
    return np.asarray(ImageEnhance.Brightness(Image.fromarray(image)).enhance(factor))


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
    """Return the picture between smoothed (0) and itself (1), or beyond."""
    return np.asarray(ImageEnhance.Sharpness(Image.fromarray(image)).enhance(factor))


def pixel_box(box: np.ndarray, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return the whole pixels that a box touches, at least one: left, top, right, bottom."""
    left, top = min(int(box[0]), shape[1] - 1), min(int(box[1]), shape[0] - 1)
    right, bottom = min(math.ceil(box[2]), shape[1]), min(math.ceil(box[3]), shape[0])
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _blanked(image: np.ndarray, y: int, x: int, half_h: int, half_w: int) -> np.ndarray:
    image = image.copy()
    image[max(0, y - half_h) : y + half_h, max(0, x - half_w) : x + half_w] = FILL
    return image

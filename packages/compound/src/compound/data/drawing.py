"""Pictures of textured geometric shapes, drawn by this file.

They need no download, yet have what makes recognition hard: clutter, scale, rotation, occlusion,
truncation at the border and low contrast. Colours are BGR float32 in 0..255 while drawing, as
OpenCV encodes them.
"""

import math
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

CLASSES = ("circle", "cross", "heart", "ring", "square", "star", "triangle")
NUM_TRIES = 8
# cv2 takes fixed-point vertices: 4 fractional bits are 1/16 px.
SHIFT = 4


@dataclass(frozen=True, slots=True)
class DrawnObject:
    """One shape in a picture.

    ``mask`` is ``(H, W)`` uint8 coverage of the whole shape in the frame, 255 inside, whether or
    not another shape hides a part of it (amodal); ``box_xywh`` is its tight box and ``area`` its
    number of pixels.
    """

    label: int
    box_xywh: tuple[int, int, int, int]
    area: int
    mask: np.ndarray


def finish(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Return a canvas as a uint8 picture, sometimes blurred, always with a little grain."""
    if rng.random() < 0.35:
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.4, 0.9))
    grain = rng.standard_normal(canvas.shape[:2], dtype=np.float32) * rng.uniform(0, 6)
    return np.clip(canvas + grain[..., None], 0, 255).astype(np.uint8)


def place(
    rng: np.random.Generator,
    picture_size: int,
    *,
    label: int,
    side: tuple[float, float],
    centre: tuple[float, float],
    min_in_frame: float,
) -> DrawnObject | None:
    """Return a shape, turned and a little stretched, or None if no try put enough of it in sight.

    Args:
        rng: what all is drawn from.
        picture_size: width and height of the picture in pixels.
        label: its class.
        side: range of the side of the square with the shape's area, in pixels.
        centre: range of its centre on both axes, as a share of the picture.
        min_in_frame: the share of it that must lie in the picture.
    """
    low, high = side
    length = math.exp(rng.uniform(math.log(low), math.log(high)))
    angle, stretch = rng.uniform(0, 2 * math.pi), math.sqrt(rng.uniform(0.8, 1.25))
    rotation = np.array([(math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))])
    contours = [
        (contour * (length * stretch, length / stretch)) @ rotation
        for contour in _contours(CLASSES[label])
    ]
    for _ in range(NUM_TRIES):
        middle = rng.uniform(*centre, 2) * picture_size
        points = [np.round((c + middle) * 2**SHIFT).astype(np.int32) for c in contours]
        mask = np.zeros((picture_size, picture_size), np.uint8)
        cv2.fillPoly(mask, points, 255, cv2.LINE_AA, SHIFT)
        solid = (mask > 127).astype(np.uint8)
        area = cv2.countNonZero(solid)
        if area >= min_in_frame * length**2:
            x, y, w, h = cv2.boundingRect(solid)
            return DrawnObject(label, (x, y, w, h), area, mask)
    return None


def paint(rng: np.random.Generator, canvas: np.ndarray, item: DrawnObject) -> None:
    """Blend the object's own texture into ``canvas`` in place."""
    x, y, w, h = item.box_xywh
    # One pixel more on each side holds the anti-aliased edge.
    rows, columns = slice(max(y - 1, 0), y + h + 1), slice(max(x - 1, 0), x + w + 1)
    region = canvas[rows, columns]
    alpha = item.mask[rows, columns].astype(np.float32)[..., None] / 255
    behind = region[item.mask[rows, columns] > 127].mean(axis=0)
    contrast = rng.uniform(70, 150)
    colours = rng.uniform(0, 255, (NUM_TRIES, 3))
    # The first with enough contrast, else the one with the most.
    distances = np.linalg.norm(colours - behind, axis=1)
    colour = colours[np.argmax(np.minimum(distances, contrast))]
    fill = np.empty_like(region)
    fill[:] = colour
    kind = rng.integers(4)
    amplitude = rng.uniform(12, 40)
    if kind == 1:
        fill += _ramp(rng, region.shape[:2])[..., None] * amplitude
    elif kind == 2:
        fill += _stripes(rng, region.shape[:2])[..., None] * amplitude
    elif kind == 3:
        fill += _noise(rng, region.shape[:2], int(rng.integers(3, 9))) * amplitude
    alpha *= rng.uniform(0.85, 1.0)
    region += (np.clip(fill, 0, 255) - region) * alpha


def calm_background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return a ``(size, size, 3)`` float32 canvas: a gradient with soft noise."""
    return np.clip(_soft(rng, size, (3, 8), 16), 0, 255)


def background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return a ``(size, size, 3)`` float32 canvas: gradient, noise, maybe a pattern, clutter."""
    shape = (size, size)
    canvas = _soft(rng, size, (3, 8, 24, 64), 22)
    if rng.random() < 0.6:
        pattern = _stripes(rng, shape)
        if rng.random() < 0.5:
            pattern = pattern * _stripes(rng, shape)
        canvas += pattern[..., None] * rng.uniform(-28, 28, 3).astype(np.float32)
    canvas = np.clip(canvas, 0, 255)
    for _ in range(int(rng.integers(3, 20))):
        # Open polylines only: clutter must not close into something that looks like a class.
        start = rng.uniform(0, size, 2)
        steps = rng.normal(0, size * rng.uniform(0.02, 0.2), (int(rng.integers(1, 4)), 2))
        points = np.concatenate([start[None], start + np.cumsum(steps, axis=0)])
        fixed = np.round(points * 2**SHIFT).astype(np.int32)
        thickness, colour = int(rng.integers(1, 4)), rng.uniform(0, 255, 3).tolist()
        cv2.polylines(canvas, [fixed], False, colour, thickness, shift=SHIFT)
    return canvas


def _soft(
    rng: np.random.Generator, size: int, knots: tuple[int, ...], strongest: float
) -> np.ndarray:
    """Return a gradient with a layer of noise for each number of knots a side."""
    shape = (size, size)
    first, second = rng.uniform(20, 235, (2, 3)).astype(np.float32)
    mix = (_ramp(rng, shape)[..., None] + 1) / 2
    canvas = first * mix + second * (1 - mix)
    for cells in knots:
        canvas += _noise(rng, shape, cells) * rng.uniform(3, strongest)
    return canvas


@cache
def _contours(name: str) -> tuple[np.ndarray, ...]:
    """Return the shape's closed contours, each ``(V, 2)``, scaled to unit area round the origin."""
    turn = np.linspace(0, 2 * math.pi, 64, endpoint=False)
    disc = _polar(turn, 1.0)
    contours = {
        "circle": lambda: [disc],
        "cross": lambda: [_cross(0.34)],
        "heart": lambda: [_heart(turn)],
        "ring": lambda: [disc, disc * 0.58],
        "square": lambda: [_polar(math.pi / 4 + np.arange(4) * math.pi / 2, 1.0)],
        "star": lambda: [_polar(np.arange(10) * math.pi / 5, np.tile([1.0, 0.42], 5))],
        "triangle": lambda: [_polar(np.arange(3) * 2 * math.pi / 3, 1.0)],
    }[name]()
    centre = (contours[0].min(axis=0) + contours[0].max(axis=0)) / 2
    # A second contour is a hole.
    area = _area(contours[0]) - sum(_area(hole) for hole in contours[1:])
    return tuple((contour - centre) / math.sqrt(area) for contour in contours)


def _polar(angles: np.ndarray, radii: np.ndarray | float) -> np.ndarray:
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _cross(arm: float) -> np.ndarray:
    """Return two bars from -1 to 1 that are ``2 * arm`` wide."""
    quarter = np.array([(arm, arm), (arm, 1), (-arm, 1)])
    turn_left = np.array([(0, 1), (-1, 0)])
    return np.concatenate([quarter @ np.linalg.matrix_power(turn_left, k) for k in range(4)])


def _heart(turn: np.ndarray) -> np.ndarray:
    y = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
    return np.stack([16 * np.sin(turn) ** 3, -y], axis=1)


def _area(contour: np.ndarray) -> float:
    x, y = contour.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _ramp(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Return an ``(H, W)`` float32 plane from about -1 to 1 in a random direction."""
    angle = rng.uniform(0, 2 * math.pi)
    y = np.linspace(-math.sin(angle), math.sin(angle), shape[0], dtype=np.float32)
    x = np.linspace(-math.cos(angle), math.cos(angle), shape[1], dtype=np.float32)
    return (y[:, None] + x) / math.sqrt(2)


def _stripes(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Return ``(H, W)`` float32 stripes in -1..1, soft or hard, 5 to 40 px a period."""
    angle, period = rng.uniform(0, math.pi), rng.uniform(5, 40)
    y = np.arange(shape[0], dtype=np.float32) * (math.sin(angle) * 2 * math.pi / period)
    x = np.arange(shape[1], dtype=np.float32) * (math.cos(angle) * 2 * math.pi / period)
    wave = np.sin(y[:, None] + x + np.float32(rng.uniform(0, 2 * math.pi)))
    return np.clip(wave * np.float32(rng.uniform(1, 5)), -1, 1)


def _noise(rng: np.random.Generator, shape: tuple[int, int], cells: int) -> np.ndarray:
    """Return ``(H, W, 3)`` float32 value noise with ``cells`` knots a side."""
    knots = rng.uniform(-1, 1, (cells, cells, 3)).astype(np.float32)
    return cv2.resize(knots, shape[::-1], interpolation=cv2.INTER_CUBIC)

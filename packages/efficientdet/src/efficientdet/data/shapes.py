"""A detection data set of textured geometric shapes, drawn by this file and stored as COCO.

It needs no download, yet has what makes detection hard: clutter, scale from tens to hundreds of
pixels, rotation, occlusion, truncation at the border, low contrast and pictures without objects.
Colours are BGR float32 in 0..255 while drawing, as OpenCV encodes them.
"""

import hashlib
import json
import math
import os
import secrets
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from backbone.errors import UserError

# Raise it whenever a change below changes pixels or annotations: it renames the cached folder.
FORMAT_VERSION = 1
CLASSES = ("circle", "cross", "heart", "ring", "square", "star", "triangle")
EMPTY_SHARE = 0.04
MAX_OBJECTS = 8
# Side of the square with the shape's area, in pixels: small, medium and large ones by COCO's terms.
# Drawn no larger than 0.8 of the picture.
SIDE_RANGE = (24, 128)
MAX_SIDE_SHARE = 0.8
MIN_IN_FRAME = 0.6
MIN_VISIBLE = 0.7
NUM_TRIES = 8
JPEG_QUALITY = 92
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


def ensure_shapes(
    cache_dir: Path, *, num_train: int, num_val: int, picture_size: int, seed: int
) -> Path:
    """Return the folder of the data set with these parameters, drawing it if it is not there.

    The layout is COCO's: ``annotations/instances_{train,val}2017.json`` and ``{train,val}2017/``.
    The folder appears complete or not at all, so processes may call this at the same time.

    Args:
        cache_dir: The folder to keep drawn data sets in; made if need be.
        num_train: Pictures in the training split.
        num_val: Pictures in the validation split.
        picture_size: Width and height of every picture in pixels, at least 32.
        seed: Not negative; other seeds draw other pictures.

    Raises:
        UserError: A parameter is out of range or ``cache_dir`` cannot be written.
    """
    info = {
        "format_version": FORMAT_VERSION,
        "num_train": num_train,
        "num_val": num_val,
        "picture_size": picture_size,
        "seed": seed,
    }
    for name, least in (("num_train", 1), ("num_val", 1), ("picture_size", 32), ("seed", 0)):
        if info[name] < least:
            raise UserError(f"shapes: {name} is {info[name]}; it must be at least {least}")
    digest = hashlib.sha256(json.dumps(info, sort_keys=True).encode()).hexdigest()[:12]
    folder = cache_dir / f"shapes-{digest}"
    if folder.is_dir():
        return folder
    try:
        _draw_into(folder, info)
    except OSError as error:
        raise UserError(f"cannot write the shapes data set into {cache_dir}: {error}") from error
    return folder


def draw_picture(
    rng: np.random.Generator, *, picture_size: int
) -> tuple[np.ndarray, list[DrawnObject]]:
    """Return one ``(H, W, 3)`` uint8 BGR picture and its objects, from back to front.

    Shapes of which less than 60 percent lies in the frame are placed anew, and those of which
    less than 70 percent would stay visible are left out, so nothing in sight lacks its box.
    """
    canvas = _background(rng, picture_size)
    num_objects = 0 if rng.random() < EMPTY_SHARE else int(rng.integers(1, MAX_OBJECTS + 1))
    placed = [_place(rng, picture_size) for _ in range(num_objects)]
    objects = _drop_hidden([item for item in placed if item is not None])
    for item in objects:
        _paint(rng, canvas, item)
    if rng.random() < 0.35:
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.4, 0.9))
    grain = rng.standard_normal(canvas.shape[:2], dtype=np.float32) * rng.uniform(0, 6)
    picture = np.clip(canvas + grain[..., None], 0, 255)
    return picture.astype(np.uint8), objects


def _draw_into(folder: Path, info: dict[str, int]) -> None:
    partial = folder.with_name(f".{folder.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        partial.mkdir(parents=True)
        for number, split in enumerate(("train", "val")):
            _write_split(partial, split, info[f"num_{split}"], [info["seed"], number], info)
        _publish(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_split(
    folder: Path, split: str, count: int, seeds: list[int], info: dict[str, int]
) -> None:
    picture_dir = folder / f"{split}2017"
    picture_dir.mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    size = info["picture_size"]
    for i in range(count):
        # A generator per picture: picture i is the same however many there are.
        picture, objects = draw_picture(np.random.default_rng([*seeds, i]), picture_size=size)
        name = f"{i + 1:012d}.jpg"
        _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        (picture_dir / name).write_bytes(data.tobytes())
        images.append({"id": i + 1, "file_name": name, "width": size, "height": size})
        for item in objects:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i + 1,
                    "category_id": item.label + 1,
                    "bbox": [float(value) for value in item.box_xywh],
                    "area": float(item.area),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(CLASSES)]
    content = {
        "info": {"description": "drawn shapes", **info},
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
    target = folder / "annotations" / f"instances_{split}2017.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(content), encoding="utf-8")


def _publish(partial: Path, folder: Path) -> None:
    try:
        os.rename(partial, folder)
    except OSError:
        # Another process finished first; its pictures are the same.
        if not folder.is_dir():
            raise


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


def _place(rng: np.random.Generator, picture_size: int) -> DrawnObject | None:
    """Return a random shape, or None if no try put enough of it in the frame."""
    label = int(rng.integers(len(CLASSES)))
    low, high = (min(side, MAX_SIDE_SHARE * picture_size) for side in SIDE_RANGE)
    side = math.exp(rng.uniform(math.log(low), math.log(high)))
    angle, stretch = rng.uniform(0, 2 * math.pi), math.sqrt(rng.uniform(0.8, 1.25))
    rotation = np.array([(math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))])
    contours = [
        (contour * (side * stretch, side / stretch)) @ rotation
        for contour in _contours(CLASSES[label])
    ]
    for _ in range(NUM_TRIES):
        centre = rng.uniform(-0.05, 1.05, 2) * picture_size
        points = [np.round((c + centre) * 2**SHIFT).astype(np.int32) for c in contours]
        mask = np.zeros((picture_size, picture_size), np.uint8)
        cv2.fillPoly(mask, points, 255, cv2.LINE_AA, SHIFT)
        solid = (mask > 127).astype(np.uint8)
        area = cv2.countNonZero(solid)
        if area >= MIN_IN_FRAME * side**2:
            x, y, w, h = cv2.boundingRect(solid)
            return DrawnObject(label, (x, y, w, h), area, mask)
    return None


def _drop_hidden(objects: list[DrawnObject]) -> list[DrawnObject]:
    """Return the objects of which enough is visible; the front one comes last."""
    kept: list[DrawnObject] = []
    for item in reversed(objects):
        solid = item.mask > 127
        in_front = [other.mask > 127 for other in kept]
        visible = solid & ~np.any(in_front, axis=0) if in_front else solid
        if np.count_nonzero(visible) >= MIN_VISIBLE * item.area:
            kept.append(item)
    return kept[::-1]


def _paint(rng: np.random.Generator, canvas: np.ndarray, item: DrawnObject) -> None:
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


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return a ``(size, size, 3)`` float32 canvas: gradient, noise, maybe a pattern, clutter."""
    shape = (size, size)
    first, second = rng.uniform(20, 235, (2, 3)).astype(np.float32)
    mix = (_ramp(rng, shape)[..., None] + 1) / 2
    canvas = first * mix + second * (1 - mix)
    for cells in (3, 8, 24, 64):
        canvas += _noise(rng, shape, cells) * rng.uniform(3, 22)
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

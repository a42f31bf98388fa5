"""A detection data set of textured geometric shapes, drawn by this file and stored as COCO.

Scale goes from tens to hundreds of pixels, shapes hide each other and leave the frame, and some
pictures hold none.
"""

import hashlib
import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from compound.data.drawing import CLASSES, DrawnObject, background, finish, paint, place
from compound.errors import UserError

# Raise it whenever a change below changes pixels or annotations: it renames the cached folder.
FORMAT_VERSION = 1
EMPTY_SHARE = 0.04
MAX_OBJECTS = 8
# Side of the square with the shape's area, in pixels: small, medium and large ones by COCO's terms.
# Drawn no larger than 0.8 of the picture.
SIDE_RANGE = (24, 128)
MAX_SIDE_SHARE = 0.8
MIN_IN_FRAME = 0.6
MIN_VISIBLE = 0.7
JPEG_QUALITY = 92


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
    canvas = background(rng, picture_size)
    num_objects = 0 if rng.random() < EMPTY_SHARE else int(rng.integers(1, MAX_OBJECTS + 1))
    low, high = (min(side, MAX_SIDE_SHARE * picture_size) for side in SIDE_RANGE)
    placed = [
        place(
            rng,
            picture_size,
            label=int(rng.integers(len(CLASSES))),
            side=(low, high),
            centre=(-0.05, 1.05),
            min_in_frame=MIN_IN_FRAME,
        )
        for _ in range(num_objects)
    ]
    objects = _drop_hidden([item for item in placed if item is not None])
    for item in objects:
        paint(rng, canvas, item)
    return finish(rng, canvas), objects


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


def _draw_into(folder: Path, info: dict[str, int]) -> None:
    partial = folder.with_name(f".{folder.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        partial.mkdir(parents=True)
        for number, split in enumerate(("train", "val")):
            _write_split(partial, split, info[f"num_{split}"], [info["seed"], number], info)
        os.rename(partial, folder)
    except OSError:
        # Another process may have finished first; its images are the same.
        if not folder.is_dir():
            raise
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

"""One split of a detection data set as flat arrays, and the checks every reader shares."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from compound.errors import UserError

NUM_SAMPLED_PICTURES = 8
# Score rows are float64, which has every integer up to here.
MAX_IMAGE_ID = 2**53
# Of each repair so many objects are named, all are counted.
MAX_PLACES = 1000
# COCO rounds x, y, w and h to 0.01 px each, so sound boxes overshoot the border by that much.
CLIP_TOLERANCE = 0.05
OUTSIDE = "boxes outside the picture dropped"


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """One object as a file has it.

    ``box`` is xyxy in absolute pixels with exclusive right and bottom, not yet checked; ``area``
    is nan where the file has none; ``place`` says where in the file it stands, for messages.
    """

    box: tuple[float, ...]
    label: int
    place: str
    crowd: bool = False
    area: float = math.nan


@dataclass(frozen=True, slots=True)
class PictureRecord:
    """One picture as a file has it; ``file_name`` is relative to the picture folder."""

    image_id: int
    file_name: str
    width: int
    height: int
    objects: Sequence[ObjectRecord] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """The ``N`` objects of a file in any order, as columns; else as `ObjectRecord`.

    Attributes:
        owners: ``(N,)``, positions among the pictures.
        boxes: ``(N, 4)`` float64 xyxy, not yet checked.
        labels: ``(N,)`` int64.
        crowd: ``(N,)`` bool.
        areas: ``(N,)`` float64, nan where the file has none.
        place: says where in the file object i stands.
    """

    owners: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    place: Callable[[int], str]


@dataclass(frozen=True, slots=True, eq=False)
class AnnotationIndex:
    """Every picture and box of one split in flat arrays.

    Loader workers share or copy little, because there is no Python object per box. With ``P``
    pictures in order of their ids, ``N`` boxes and ``K`` classes:

    Attributes:
        image_dir: The folder that ``file_names`` are relative to.
        file_names: ``(P,)`` fixed-width unicode.
        image_ids: ``(P,)`` int64, strictly increasing.
        sizes: ``(P, 2)`` int32, width and height in pixels.
        offsets: ``(P + 1,)`` int64; the boxes of picture i are ``offsets[i]:offsets[i + 1]``.
        boxes: ``(N, 4)`` float64 xyxy in absolute pixels, exclusive right and bottom. Rounded to
            float32 they would move COCO's own example score by 0.001; batches are float32.
        labels: ``(N,)`` int64 in ``0..K-1``.
        crowd: ``(N,)`` bool; training skips these, evaluation ignores them.
        areas: ``(N,)`` float64, what evaluation buckets by: the file's area, else the box's.
        class_names: ``K`` names.
        category_ids: ``(K,)`` int64; ``category_ids[label]`` is the id in the files.
        repairs: How often each repair was made; empty when all was sound.
        places: Where the files have what repairs of boxes were made on, the first of each.
    """

    image_dir: Path
    file_names: np.ndarray
    image_ids: np.ndarray
    sizes: np.ndarray
    offsets: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    class_names: tuple[str, ...]
    category_ids: np.ndarray
    repairs: dict[str, int]
    places: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.image_ids)

    @property
    def owners(self) -> np.ndarray:
        """Return the position of each box's picture, ``(N,)`` int64."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def path(self, i: int) -> Path:
        """Return the file of the picture at position ``i``."""
        return self.image_dir / str(self.file_names[i])

    def rows(self, i: int) -> slice:
        """Return the rows of the box arrays that belong to the picture at position ``i``."""
        return slice(int(self.offsets[i]), int(self.offsets[i + 1]))


def build_index(
    pictures: Sequence[PictureRecord],
    *,
    source: Path,
    image_dir: Path,
    class_names: Sequence[str],
    category_ids: Sequence[int],
    objects: Objects | None = None,
    drop_repeats: bool = False,
    repairs: Mapping[str, int] | None = None,
) -> AnnotationIndex:
    """Check and repair what a reader found and pack it into flat arrays.

    Boxes reaching outside their picture are clipped; boxes that are empty, inverted or wholly
    outside are dropped. Each kind of repair is counted, since real data sets contain all of them.
    What all boxes need is no repair: if all are wholly outside, their unit is another.

    Args:
        pictures: The pictures in any order.
        source: The file they come from, for messages.
        image_dir: The folder that the file names are relative to.
        class_names: ``K`` names.
        category_ids: ``K`` ids as the files have them.
        objects: The objects as columns; None takes those of the pictures' records.
        drop_repeats: Whether of a picture's records those with equal box, class and crowd flag are
            one object. Not for COCO, where two ids are two objects, and the official score counts
            both.
        repairs: What the reader repaired before, told with the rest.

    Raises:
        UserError: There is no picture; an image id occurs twice or is too large; a file name
            leaves ``image_dir``; a picture has no size; a coordinate is NaN or infinite; all boxes
            are outside; or the first pictures are not in ``image_dir``.
    """
    made = dict(repairs or {})
    if objects is None:
        objects, num_repeats = _columns(pictures, drop_repeats=drop_repeats)
        made = ({"repeated objects dropped": num_repeats} if num_repeats else {}) | made
    order = sorted(range(len(pictures)), key=lambda i: pictures[i].image_id)
    ordered = [pictures[i] for i in order]
    _check_pictures(ordered, source)
    sizes = np.array([(picture.width, picture.height) for picture in ordered], dtype=np.int32)
    columns, repaired = _pack_objects(objects, np.argsort(order), sizes, source)
    index = AnnotationIndex(
        image_dir=image_dir,
        file_names=np.array([picture.file_name for picture in ordered]),
        image_ids=np.array([picture.image_id for picture in ordered], dtype=np.int64),
        sizes=sizes,
        **columns,
        class_names=tuple(class_names),
        category_ids=np.array(category_ids, dtype=np.int64),
        repairs=made | {name: len(rows) for name, rows in repaired.items()},
        places=_places(repaired, ordered, objects),
    )
    check_files(index, source)
    return index


def _places(
    repaired: Mapping[str, np.ndarray], ordered: Sequence[PictureRecord], objects: Objects
) -> dict[str, tuple[str, ...]]:
    """Return where the files have the first objects of each repair, see `_pack_objects`."""
    return {
        name: tuple(
            f"{ordered[owner].file_name}: {objects.place(row)}" for row, owner in rows[:MAX_PLACES]
        )
        for name, rows in repaired.items()
    }


def _columns(pictures: Sequence[PictureRecord], *, drop_repeats: bool) -> tuple[Objects, int]:
    """Return the objects of all records, and how many were dropped as repeats."""
    found = [_once(p.objects) if drop_repeats else p.objects for p in pictures]
    objects = [item for own in found for item in own]
    columns = Objects(
        owners=np.repeat(np.arange(len(pictures)), np.array([len(own) for own in found], np.int64)),
        boxes=np.array([item.box for item in objects], dtype=np.float64).reshape(-1, 4),
        labels=np.array([item.label for item in objects], dtype=np.int64),
        crowd=np.array([item.crowd for item in objects], dtype=bool),
        areas=np.array([item.area for item in objects], dtype=np.float64),
        place=lambda i: objects[i].place,
    )
    return columns, sum(len(picture.objects) for picture in pictures) - len(objects)


def _once(objects: Sequence[ObjectRecord]) -> Sequence[ObjectRecord]:
    unique: dict[Any, ObjectRecord] = {}
    for item in objects:
        unique.setdefault((item.box, item.label, item.crowd), item)
    return list(unique.values())


def _pack_objects(
    objects: Objects, ranks: np.ndarray, sizes: np.ndarray, source: Path
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the arrays with one row per kept box, with their offsets, and what was repaired.

    ``ranks`` are the places that the pictures have in order of their ids. Of each repair there is
    a row an object: its position among the objects, and that of its picture.
    """
    owners = ranks[objects.owners]
    rows = np.argsort(owners, kind="stable")
    owners, raw = owners[rows], objects.boxes[rows]
    _check_finite(raw, lambda i: objects.place(rows[i]), source)
    boxes, keep, repairs = repair_boxes(raw, sizes[owners])
    if len(rows) and OUTSIDE in repairs and repairs[OUTSIDE].all():
        raise UserError(
            f"{source}: all {len(rows)} boxes lie outside their pictures, such as that of "
            f"{objects.place(rows[0])}; check the unit and the order of the coordinates"
        )
    repaired = {
        name: np.stack([rows[mask], owners[mask]], axis=1) for name, mask in repairs.items()
    }
    boxes, rows = boxes[keep], rows[keep]
    areas = objects.areas[rows]
    box_areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    counts = np.bincount(owners[keep], minlength=len(sizes))
    columns = {
        "offsets": np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        "boxes": boxes,
        "labels": objects.labels[rows],
        "crowd": objects.crowd[rows],
        "areas": np.where(np.isfinite(areas), areas, box_areas),
    }
    return columns, repaired


def repair_boxes(
    raw: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return ``(N, 4)`` clipped boxes, the ``(N,)`` mask of those to keep, and of each repair."""
    limits = np.concatenate([sizes, sizes], axis=1)
    boxes = np.clip(raw, 0, limits)
    extent = raw[:, 2:] - raw[:, :2]
    inverted = (extent < 0).any(axis=1)
    flat = ~inverted & (extent == 0).any(axis=1)
    # float32 is what trains: a sliver that rounds to nothing there is as empty as any other.
    stored = boxes.astype(np.float32)
    sound = ~inverted & ~flat
    outside = sound & (stored[:, 2:] <= stored[:, :2]).any(axis=1)
    keep = sound & ~outside
    clipped = keep & (np.abs(boxes - raw) > CLIP_TOLERANCE).any(axis=1)
    repaired = {
        "inverted boxes dropped": inverted,
        "zero-size boxes dropped": flat,
        OUTSIDE: outside,
        "boxes clipped to the picture": clipped,
    }
    return boxes, keep, {name: mask for name, mask in repaired.items() if mask.any()}


def _check_pictures(ordered: Sequence[PictureRecord], source: Path) -> None:
    if not ordered:
        raise UserError(f"{source} lists no picture; give a split that has some")
    for picture, following in pairwise(ordered):
        if picture.image_id == following.image_id:
            raise UserError(
                f"{source}: image id {picture.image_id} occurs twice ({picture.file_name} and "
                f"{following.file_name}); list each picture once, with an id of its own"
            )
    for picture in ordered:
        if _leaves_folder(picture.file_name):
            raise UserError(
                f"{source}: file name {picture.file_name!r} of image {picture.image_id} must be "
                "relative and stay inside the picture folder"
            )
        if abs(picture.image_id) > MAX_IMAGE_ID:
            raise UserError(
                f"{source}: image id {picture.image_id} is too large for the score, which has "
                "whole numbers up to 2**53; number the pictures from 1"
            )
        if picture.width <= 0 or picture.height <= 0:
            raise UserError(
                f"{source}: image {picture.image_id} ({picture.file_name}) has the size "
                f"{picture.width} x {picture.height}; both must be positive"
            )


def _leaves_folder(file_name: str) -> bool:
    # Only these names need the slow look below.
    if file_name and file_name[0] not in "/\\" and ":" not in file_name and ".." not in file_name:
        return False
    # Windows rules know both separators and drives, so they see every way out of the folder.
    path = PureWindowsPath(file_name)
    return not file_name or bool(path.anchor) or ".." in path.parts


def _check_finite(raw: np.ndarray, place: Callable[[int], str], source: Path) -> None:
    bad = np.flatnonzero(~np.isfinite(raw).all(axis=1))
    if bad.size:
        raise UserError(
            f"{source}: {place(bad[0])} has the box {raw[bad[0]].tolist()}, which is not "
            f"finite ({bad.size} such in all); correct or remove it"
        )


def check_files(index: AnnotationIndex, source: Path) -> None:
    """Refuse a picture folder that lacks one of the first pictures.

    Raises:
        UserError: it does.
    """
    sample = [index.image_dir / name for name in index.file_names[:NUM_SAMPLED_PICTURES].tolist()]
    missing = [path for path in sample if not path.is_file()]
    if missing:
        raise UserError(
            f"{source} lists {missing[0].name}, but {missing[0]} does not exist ({len(missing)} "
            f"of the first {len(sample)} pictures are missing); check the picture folder"
        )

"""Reads object annotations in COCO's JSON format (https://cocodataset.org/#format-data)."""

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import chain
from operator import attrgetter
from pathlib import Path
from types import NoneType
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, Struct

from compound.errors import UserError
from efficientdet.data.index import AnnotationIndex, Objects, PictureRecord, build_index

LAYOUT = "annotations/instances_{train,val}2017.json and {train,val}2017/"
FORMAT = "cocodataset.org/#format-data"
Place = Callable[[int], str]


class _Picture(Struct, gc=False):
    id: Any = UNSET
    file_name: Any = UNSET
    width: Any = UNSET
    height: Any = UNSET


class _Annotation(Struct, gc=False):
    id: Any = UNSET
    image_id: Any = UNSET
    category_id: Any = UNSET
    bbox: Any = UNSET
    iscrowd: Any = 0
    area: Any = None


class _Category(Struct, gc=False):
    id: Any = UNSET
    name: Any = UNSET


class _Content(Struct):
    """What is kept of a file: its polygons, which are most of it, are not."""

    images: list[_Picture]
    annotations: list[_Annotation]
    categories: list[_Category]


def read_coco(annotation_file: Path, image_dir: Path) -> AnnotationIndex:
    """Return the pictures and boxes of one COCO annotation file.

    Labels number the categories in order of their ids, so that COCO's 80 ids with holes in
    1..90 become 0..79. ``iscrowd`` is 0 and ``area`` is the box's where an annotation lacks them.
    Ids of annotations are not needed here; two different annotations with one id both count.

    Args:
        annotation_file: JSON with the lists ``images``, ``annotations`` and ``categories``.
        image_dir: The folder with the pictures.

    Raises:
        UserError: Something is missing, is not COCO, or refers to what is not there.
    """
    if not image_dir.is_dir():
        raise UserError(f"no picture folder {image_dir}; the layout expected is {LAYOUT}")
    if not annotation_file.is_file():
        raise UserError(f"no annotation file {annotation_file}; the layout expected is {LAYOUT}")
    content = _load(annotation_file)
    names = _category_names(content.categories, annotation_file)
    repeated, repairs = _repeated_ids(content.annotations, annotation_file)
    positions = [i for i in range(len(content.annotations)) if i not in repeated]
    pictures = _pictures(content.images, annotation_file)
    objects = _objects(content.annotations, positions, pictures, list(names), annotation_file)
    return build_index(
        pictures,
        source=annotation_file,
        image_dir=image_dir,
        class_names=list(names.values()),
        category_ids=list(names),
        objects=objects,
        repairs=repairs,
    )


def _load(annotation_file: Path) -> _Content:
    # A ValueError is any that msgspec or the decoding of text has.
    with suppress(ValueError, RecursionError):
        return msgspec.json.decode(annotation_file.read_bytes(), type=_Content)
    # Python's reader knows more: NaN, and what to say of a file that is something else.
    content = _load_plain(annotation_file)
    for key in _Content.__struct_fields__:
        _check_list(content, key, annotation_file)
    return msgspec.convert(content, _Content)


def _load_plain(annotation_file: Path) -> dict[str, Any]:
    try:
        content = json.loads(annotation_file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{annotation_file} is not JSON ({error}); fetch or export it again"
        ) from error
    if not isinstance(content, dict):
        raise UserError(
            f"{annotation_file} is not COCO: it holds a {type(content).__name__}, not an object "
            "with images, annotations and categories"
        )
    return content


def _check_list(content: dict[str, Any], key: str, annotation_file: Path) -> None:
    value = content.get(key)
    if not isinstance(value, list):
        raise UserError(
            f"{annotation_file} is not COCO: it has no list {key!r} (it has "
            f"{', '.join(sorted(content)) or 'nothing'}); give an instances file"
        )
    for position, entry in enumerate(value):
        if not isinstance(entry, dict):
            raise UserError(
                f"{annotation_file}: {key}[{position}] is {entry!r}; an object with fields is "
                f"needed, see {FORMAT}"
            )


def _column(entries: Iterable[Struct], key: str, kinds: set[type], place: Place) -> list[Any]:
    """Return the values that a field has in all entries."""
    values = list(map(attrgetter(key), entries))
    if not set(map(type, values)) <= kinds:
        i, value = next((i, v) for i, v in enumerate(values) if type(v) not in kinds)
        found = "is missing" if value is UNSET else f"is {value!r}"
        raise UserError(f"{place(i)}: the field {key!r} {found}; see {FORMAT}")
    return values


def _category_names(categories: Sequence[_Category], annotation_file: Path) -> dict[int, str]:
    """Return name by category id, in order of the ids."""

    def place(i: int) -> str:
        return f"{annotation_file}: categories[{i}]"

    ids = _column(categories, "id", {int}, place)
    names: dict[int, str] = {}
    for i, name in enumerate(_column(categories, "name", {str}, place)):
        if ids[i] in names:
            raise UserError(f"{place(i)}: category id {ids[i]} occurs twice; make ids unique")
        if name in names.values():
            raise UserError(f"{place(i)}: the name {name!r} occurs twice; make names unique")
        names[ids[i]] = name
    if not names:
        raise UserError(f"{annotation_file}: the list 'categories' is empty; name the classes")
    return dict(sorted(names.items()))


def _repeated_ids(
    annotations: Sequence[_Annotation], annotation_file: Path
) -> tuple[set[int], dict[str, int]]:
    """Return the positions of annotations that repeat an earlier one, and what was found.

    Files that were put together from several use ids twice. pycocotools would then find one of
    two annotations twice, so that its own score of such a file is wrong; ours is not.
    """
    ids = [entry.id for entry in annotations if isinstance(entry.id, (int, str))]
    repeated: set[int] = set()
    if len(set(ids)) == len(ids):
        return repeated, {}
    seen: dict[int | str, dict[str, Any]] = {}
    num_reused = 0
    # Whether two are the same, their polygons tell too: the whole file is needed.
    for position, entry in enumerate(_load_plain(annotation_file)["annotations"]):
        if not isinstance(entry.get("id"), (int, str)):
            continue
        earlier = seen.setdefault(entry["id"], entry)
        if earlier is entry:
            continue
        if earlier == entry:
            repeated.add(position)
        else:
            num_reused += 1
    counts = {
        "repeated annotations dropped": len(repeated),
        "annotations kept although another has their id": num_reused,
    }
    return repeated, {name: count for name, count in counts.items() if count}


def _pictures(images: Sequence[_Picture], annotation_file: Path) -> list[PictureRecord]:
    def place(i: int) -> str:
        return f"{annotation_file}: images[{i}]"

    kinds = {"id": int, "file_name": str, "width": int, "height": int}
    columns = [_column(images, key, {kind}, place) for key, kind in kinds.items()]
    return list(map(PictureRecord, *columns))


def _objects(
    annotations: Sequence[_Annotation],
    positions: Sequence[int],
    pictures: Sequence[PictureRecord],
    category_ids: Sequence[int],
    annotation_file: Path,
) -> Objects:
    """Return the annotations at ``positions`` as columns."""
    entries = [annotations[i] for i in positions]

    def place(i: int) -> str:
        return f"{annotation_file}: annotations[{positions[i]}]"

    def name(i: int) -> str:
        return f"annotation {place(i) if entries[i].id is UNSET else entries[i].id}"

    image_ids = _column(entries, "image_id", {int}, place)
    labels = _labels(_column(entries, "category_id", {int}, place), category_ids, place)
    boxes = _boxes(_column(entries, "bbox", {list}, place), place)
    crowd = [entry.iscrowd for entry in entries]
    if wrong := [i for i, flag in enumerate(crowd) if flag not in (0, 1)]:
        raise UserError(f"{place(wrong[0])}: iscrowd is {crowd[wrong[0]]!r}; 0 or 1 is needed")
    areas = _areas(_column(entries, "area", {int, float, NoneType}, place), place)
    owners = _owners(image_ids, pictures, name, annotation_file)
    return Objects(owners, boxes, labels, np.array(crowd, dtype=bool), areas, place=name)


def _labels(found: Sequence[int], category_ids: Sequence[int], place: Place) -> np.ndarray:
    labels = {category_id: label for label, category_id in enumerate(category_ids)}
    for i, category_id in enumerate(found):
        if category_id not in labels:
            raise UserError(
                f"{place(i)}: category_id {category_id} is not among the {len(labels)} categories; "
                "add it there or remove the annotation"
            )
    return np.array([labels[category_id] for category_id in found], dtype=np.int64)


def _boxes(boxes_xywh: Sequence[list[Any]], place: Place) -> np.ndarray:
    """Return ``(N, 4)`` xyxy."""
    if not (
        set(map(len, boxes_xywh)) <= {4}
        and set(map(type, chain.from_iterable(boxes_xywh))) <= {int, float, bool}
    ):
        for i, box in enumerate(boxes_xywh):
            if len(box) != 4 or not all(isinstance(value, (int, float)) for value in box):
                raise UserError(f"{place(i)}: bbox is {box!r}; four numbers x, y, w, h are needed")
    numbers = chain.from_iterable(boxes_xywh)
    boxes = np.fromiter(numbers, np.float64, 4 * len(boxes_xywh)).reshape(-1, 4)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is told later
        boxes[:, 2:] += boxes[:, :2]
    return boxes


def _areas(areas: Sequence[float | None], place: Place) -> np.ndarray:
    """Return ``(N,)``, nan where there is none."""
    found = np.array(areas, dtype=np.float64)  # None becomes nan
    for i in np.flatnonzero(~np.isfinite(found)).tolist():
        if areas[i] is not None:
            raise UserError(
                f"{place(i)}: area is {areas[i]}; a finite number is needed, or none at all"
            )
    return found


def _owners(
    image_ids: Sequence[int],
    pictures: Sequence[PictureRecord],
    name: Place,
    annotation_file: Path,
) -> np.ndarray:
    """Return each annotation's position among the pictures."""
    positions = {picture.image_id: i for i, picture in enumerate(pictures)}
    unknown = sorted(set(image_ids) - positions.keys())
    if unknown:
        raise UserError(
            f"{annotation_file}: {name(image_ids.index(unknown[0]))} belongs to image "
            f"{unknown[0]}, which is not in 'images' ({len(unknown)} such images in all); add or "
            "remove them"
        )
    return np.array([positions[image_id] for image_id in image_ids], dtype=np.int64)

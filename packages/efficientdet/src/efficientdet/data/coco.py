"""Reads object annotations in COCO's JSON format (https://cocodataset.org/#format-data)."""

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any, TypeVar

from backbone.errors import UserError
from efficientdet.data.index import AnnotationIndex, ObjectRecord, PictureRecord, build_index

LAYOUT = "annotations/instances_{train,val}2017.json and {train,val}2017/"
FORMAT = "cocodataset.org/#format-data"
NUMBER = (int, float)
Field = TypeVar("Field")


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
    content = _load(annotation_file)
    images, annotations, categories = (
        _list(content, key, annotation_file) for key in ("images", "annotations", "categories")
    )
    names = _category_names(categories, annotation_file)
    labels = {category_id: label for label, category_id in enumerate(names)}
    objects: defaultdict[int, list[ObjectRecord]] = defaultdict(list)
    repeated, repairs = _repeated_ids(annotations)
    for position, entry in enumerate(annotations):
        if position in repeated:
            continue
        place = f"{annotation_file}: annotations[{position}]"
        image_id, record = _object(entry, labels, place)
        objects[image_id].append(record)
    pictures = [
        _picture(entry, objects, f"{annotation_file}: images[{position}]")
        for position, entry in enumerate(images)
    ]
    _check_owners(objects, pictures, annotation_file)
    return build_index(
        pictures,
        source=annotation_file,
        image_dir=image_dir,
        class_names=list(names.values()),
        category_ids=list(names),
        repairs=repairs,
    )


def _load(annotation_file: Path) -> dict[str, Any]:
    if not annotation_file.is_file():
        raise UserError(f"no annotation file {annotation_file}; the layout expected is {LAYOUT}")
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


def _list(content: dict[str, Any], key: str, annotation_file: Path) -> list[dict[str, Any]]:
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
    return value


def _field(
    entry: dict[str, Any], key: str, kind: type[Field] | tuple[type[Field], ...], place: str
) -> Field:
    value = entry.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        found = f"is {value!r}" if key in entry else "is missing"
        raise UserError(f"{place}: the field {key!r} {found}; see {FORMAT}")
    return value


def _category_names(categories: list[dict[str, Any]], annotation_file: Path) -> dict[int, str]:
    """Return name by category id, in order of the ids."""
    names: dict[int, str] = {}
    for position, entry in enumerate(categories):
        place = f"{annotation_file}: categories[{position}]"
        category_id = _field(entry, "id", int, place)
        if category_id in names:
            raise UserError(f"{place}: category id {category_id} occurs twice; make ids unique")
        name = _field(entry, "name", str, place)
        if name in names.values():
            raise UserError(f"{place}: the name {name!r} occurs twice; make names unique")
        names[category_id] = name
    if not names:
        raise UserError(f"{annotation_file}: the list 'categories' is empty; name the classes")
    return dict(sorted(names.items()))


def _repeated_ids(annotations: list[dict[str, Any]]) -> tuple[set[int], dict[str, int]]:
    """Return the positions of annotations that repeat an earlier one, and what was found.

    Files that were put together from several use ids twice. pycocotools would then find one of
    two annotations twice, so that its own score of such a file is wrong; ours is not.
    """
    seen: dict[int | str, dict[str, Any]] = {}
    repeated: set[int] = set()
    num_reused = 0
    for position, entry in enumerate(annotations):
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


def _object(entry: dict[str, Any], labels: dict[int, int], place: str) -> tuple[int, ObjectRecord]:
    image_id = _field(entry, "image_id", int, place)
    category_id = _field(entry, "category_id", int, place)
    bbox_xywh = _field(entry, "bbox", list, place)
    if category_id not in labels:
        raise UserError(
            f"{place}: category_id {category_id} is not among the {len(labels)} categories; "
            "add it there or remove the annotation"
        )
    if len(bbox_xywh) != 4 or not all(isinstance(value, NUMBER) for value in bbox_xywh):
        raise UserError(f"{place}: bbox is {bbox_xywh!r}; four numbers x, y, w, h are needed")
    crowd = entry.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise UserError(f"{place}: iscrowd is {crowd!r}; 0 or 1 is needed")
    x, y, w, h = bbox_xywh
    record = ObjectRecord(
        box=(x, y, x + w, y + h),
        label=labels[category_id],
        crowd=bool(crowd),
        area=_area(entry, place),
        place=f"annotation {entry.get('id', place)}",
    )
    return image_id, record


def _area(entry: dict[str, Any], place: str) -> float | None:
    if entry.get("area") is None:
        return None
    area = _field(entry, "area", NUMBER, place)
    if not math.isfinite(area):
        raise UserError(f"{place}: area is {area}; a finite number is needed, or none at all")
    return area


def _picture(
    entry: dict[str, Any], objects: dict[int, list[ObjectRecord]], place: str
) -> PictureRecord:
    image_id = _field(entry, "id", int, place)
    return PictureRecord(
        image_id=image_id,
        file_name=_field(entry, "file_name", str, place),
        width=_field(entry, "width", int, place),
        height=_field(entry, "height", int, place),
        objects=objects.get(image_id, ()),
    )


def _check_owners(
    objects: dict[int, list[ObjectRecord]],
    pictures: list[PictureRecord],
    annotation_file: Path,
) -> None:
    unknown = sorted(objects.keys() - {picture.image_id for picture in pictures})
    if unknown:
        raise UserError(
            f"{annotation_file}: {objects[unknown[0]][0].place} belongs to image {unknown[0]}, "
            f"which is not in 'images' ({len(unknown)} such images in all); add or remove them"
        )

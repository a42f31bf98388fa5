"""Reads object annotations in YOLO's text format, one file a picture and one line an object."""

import logging
import math
import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from compound.errors import UserError
from efficientdet.data.headers import Header, read_headers
from efficientdet.data.index import AnnotationIndex, ObjectRecord, PictureRecord, build_index
from efficientdet.data.yolo_layout import YoloLayout, label_file, read_data_yaml

BOX_NUMBERS = 4
MIN_POLYGON_NUMBERS = 6
MAX_LINE_SHOWN = 60

log = logging.getLogger(__name__)


def read_yolo(data_yaml: Path) -> dict[str, AnnotationIndex]:
    """Return the splits of a data set in the layout of Ultralytics.

    A line is ``class cx cy w h`` in shares of the picture, or ``class x y x y x y ...``, a
    polygon, of which the box is taken. A picture without a label file, or with an empty one, is a
    picture without objects; a test split without any label file is left out. Labels number the
    class ids in their order, image ids the pictures of all splits in order of their paths.

    Programs disagree whether boxes belong to the picture as stored or as its EXIF orientation
    turns it: Ultralytics turns, darknet does not. So pictures with one are refused.

    Args:
        data_yaml: The file that names the classes and splits.

    Raises:
        UserError: Something is missing, malformed, of an unknown class, or open to two readings.
    """
    layout = read_data_yaml(data_yaml.expanduser().absolute())
    paths = {picture for pictures in layout.pictures.values() for picture in pictures}
    ids = {picture: position for position, picture in enumerate(sorted(paths), start=1)}
    splits = {}
    for split in layout.pictures:
        index = _read_split(layout, split, ids)
        if index is None:
            log.warning("%s: test is left out, as it has no label files", layout.file)
        else:
            splits[split] = index
    return splits


def _read_split(layout: YoloLayout, split: str, ids: Mapping[Path, int]) -> AnnotationIndex | None:
    """Return a split, or None for a test split without label files."""
    pictures = layout.pictures[split]
    labels = [label_file(picture) for picture in pictures]
    if not any(path.is_file() for path in labels):
        if split == "test":
            return None
        raise UserError(
            f"{layout.file}: none of the {len(labels)} pictures of {split} has a label file; "
            f"expected such as {labels[0]}"
        )
    _check_owners(layout.file, split, labels)
    headers = read_headers(pictures, source=layout.file)
    _check_upright(pictures, headers)
    label_by_id = {float(class_id): label for label, class_id in enumerate(layout.names)}
    with ThreadPoolExecutor() as pool:
        read = partial(_read_labels, label_by_id=label_by_id)
        objects = list(pool.map(read, labels, headers))
    image_dir = Path(os.path.commonpath([layout.root, *{path.parent for path in pictures}]))
    records = [
        PictureRecord(
            image_id=ids[path],
            file_name=path.relative_to(image_dir).as_posix(),
            width=header.width,
            height=header.height,
            objects=found,
        )
        for path, header, found in zip(pictures, headers, objects, strict=True)
    ]
    strays = layout.strays[split]
    return build_index(
        records,
        source=layout.file,
        image_dir=image_dir,
        class_names=list(layout.names.values()),
        category_ids=list(layout.names),
        drop_repeats=True,
        repairs={"label files without a picture left out": strays} if strays else {},
    )


def _check_owners(file: Path, split: str, labels: list[Path]) -> None:
    path, count = Counter(labels).most_common(1)[0]
    if count > 1:
        raise UserError(
            f"{file}: {path} belongs to {count} pictures of {split}; name each picture once, and "
            "no two alike but for their ending"
        )


def _check_upright(pictures: list[Path], headers: list[Header]) -> None:
    turned = [path for path, header in zip(pictures, headers, strict=True) if header.turned]
    if turned:
        raise UserError(
            f"{turned[0]} has an EXIF orientation ({len(turned)} such of {len(pictures)} "
            "pictures), and YOLO labels do not say whether they belong to the turned picture: "
            "turn it for good (mogrify -auto-orient), or remove the tag (exiftool -Orientation=)"
        )


def _read_labels(
    path: Path, header: Header, label_by_id: Mapping[float, int]
) -> list[ObjectRecord]:
    if not path.is_file():
        return []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text ({error}); write it anew or remove it") from error
    return [
        _read_object(line, f"{path}, line {number}", header, label_by_id)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]


def _read_object(
    line: str, place: str, header: Header, label_by_id: Mapping[float, int]
) -> ObjectRecord:
    shown = line if len(line) <= MAX_LINE_SHOWN else f"{line[:MAX_LINE_SHOWN]}..."
    try:
        class_id, *numbers = map(float, line.split())
    except ValueError as error:
        raise UserError(f"{place}: {shown!r} holds what is no number; correct it") from error
    if not all(map(math.isfinite, numbers)):
        raise UserError(f"{place}: {shown!r} is not finite; correct or remove it")
    if class_id not in label_by_id:
        raise UserError(
            f"{place}: class {class_id:g} is not among the {len(label_by_id)} of names in the "
            "data.yaml; add it there or remove the line"
        )
    if len(numbers) == BOX_NUMBERS:
        cx, cy, w, h = numbers
        box = header.pixels(cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
    elif len(numbers) >= MIN_POLYGON_NUMBERS and len(numbers) % 2 == 0:
        xs, ys = numbers[0::2], numbers[1::2]
        box = header.pixels(min(xs), min(ys), max(xs), max(ys))
    else:
        raise UserError(
            f"{place}: {shown!r} has {len(numbers)} numbers after the class; 4 (cx cy w h) or the "
            "x y of 3 or more corners are needed"
        )
    return ObjectRecord(box, label_by_id[class_id], place)

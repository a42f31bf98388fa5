"""Reads the box annotations of Open Images V4 to V7, or files that are written like them.

The columns are described at https://storage.googleapis.com/openimages/web/download_v7.html.
"""

import csv
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from compound.errors import UserError, closest
from efficientdet.data.headers import Header, read_headers
from efficientdet.data.index import AnnotationIndex, ObjectRecord, PictureRecord, build_index

LAYOUT = "<split>-annotations-bbox.csv, class-descriptions-boxable.csv and <split>/<ImageID>.jpg"
# Newer releases put their version before the name.
PREFIXES = ("", "oidv6-", "oidv7-")
COLUMNS = ("ImageID", "LabelName", "IsGroupOf", "Confidence", "XMin", "YMin", "XMax", "YMax")

# -1 stands for "not known".
CROWD = {"1": True, "0": False, "-1": False}

Classes = Literal["all", "occurring"] | Sequence[str]


def read_openimages(
    root: Path,
    splits: Mapping[str, str],
    *,
    classes: Classes = "all",
    partial: bool = False,
) -> dict[str, AnnotationIndex]:
    """Return the splits of a data set in the layout of Open Images.

    Groups (``IsGroupOf``) become crowd; depictions are objects like others. Rows of confidence 0
    say that a class is absent. A picture of the folder without rows has no objects, although the
    official score would not count false alarms of classes that nobody looked for in it; ours is
    COCO's, and lower. Boxes belong to the pictures as stored, as TensorFlow's readers take them.

    Category ids are 1-based lines of the class descriptions. Image ids number the pictures split
    by split in order of their names.

    Args:
        root: The folder with the CSV files and a folder of pictures for each split.
        splits: What the files call a split, by our name of it.
        classes: All that are described, those of which a split has an object, or names in order
            of their labels; boxes of other classes are passed over.
        partial: Take the pictures that are there, where others are named too.

    Raises:
        UserError: Something is missing, malformed, or of a class that is not described.
    """
    names = _class_names(root)
    label_by_name = {name: label for label, name in enumerate(_choose(names, classes))}
    ids: dict[str, int] = {}
    found: dict[str, AnnotationIndex] = {}
    for name, split in splits.items():
        stems = _pictures(root / split)
        for stem in stems:
            ids.setdefault(stem, len(ids) + 1)
        found[name] = _read_split(
            root, split, {stem: ids[stem] for stem in stems}, names, label_by_name, partial=partial
        )
    return _occurring(found) if classes == "occurring" else found


def _file(root: Path, name: str) -> Path:
    paths = [root / f"{prefix}{name}" for prefix in PREFIXES]
    for path in paths:
        if path.is_file():
            return path
    raise UserError(f"no file {paths[0]}; the layout expected is {LAYOUT}")


def _class_names(root: Path) -> dict[str, str]:
    """Return the name of each class by its code, such as ``/m/01yrx``, in order of the file."""
    path = _file(root, "class-descriptions-boxable.csv")
    names: dict[str, str] = {}
    for line, row in _rows(path):
        # Only some releases have a line of headings.
        if line == 1 and not row[0].startswith("/"):
            continue
        if len(row) != 2:
            raise UserError(f"{path}, line {line}: {row} is not a code and a name")
        code, name = row
        if code in names or name in names.values():
            raise UserError(f"{path}, line {line}: {code} or {name!r} occurs twice; remove one")
        names[code] = name
    if not names:
        raise UserError(f"{path} describes no class; its lines are such as /m/01yrx,Cat")
    return names


def _choose(names: Mapping[str, str], classes: Classes) -> list[str]:
    if isinstance(classes, str):
        closest(classes, ("all", "occurring"), what="data.read.classes")
        return list(names.values())
    if not classes or len(set(classes)) < len(classes):
        raise UserError(f"data.read.classes={list(classes)}: name each class once, one at least")
    return [closest(name, names.values(), what="data.read.classes: class") for name in classes]


def _pictures(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise UserError(f"no picture folder {folder}; the layout expected is {LAYOUT}")
    stems = sorted(path.stem for path in folder.glob("*.jpg") if not path.name.startswith("."))
    if not stems:
        raise UserError(f"{folder} holds no picture (.jpg); the layout expected is {LAYOUT}")
    return stems


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines of a CSV file with their numbers, without empty ones."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        try:
            for row in reader:
                if row:
                    yield reader.line_num, row
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{path} is not CSV in UTF-8 ({error}); fetch it again") from error


def _read_split(
    root: Path,
    split: str,
    ids: Mapping[str, int],
    names: Mapping[str, str],
    label_by_name: Mapping[str, int],
    *,
    partial: bool,
) -> AnnotationIndex:
    path, image_dir = _file(root, f"{split}-annotations-bbox.csv"), root / split
    files = [image_dir / f"{stem}.jpg" for stem in ids]
    headers = dict(zip(ids, read_headers(files, source=path), strict=True))
    objects, num_missing = _read_boxes(path, headers, names, label_by_name, partial=partial)
    records = [
        PictureRecord(
            image_id=image_id,
            file_name=f"{stem}.jpg",
            width=headers[stem].width,
            height=headers[stem].height,
            objects=objects.get(stem, ()),
        )
        for stem, image_id in ids.items()
    ]
    counts = {
        "pictures that are not there left out": num_missing,
        "pictures with an EXIF orientation taken as stored": sum(
            h.turned for h in headers.values()
        ),
    }
    lines = {name: line for line, name in enumerate(names.values(), start=1)}
    return build_index(
        records,
        source=path,
        image_dir=image_dir,
        class_names=list(label_by_name),
        category_ids=[lines[name] for name in label_by_name],
        drop_repeats=True,
        repairs={name: count for name, count in counts.items() if count},
    )


def _read_boxes(
    path: Path,
    headers: Mapping[str, Header],
    names: Mapping[str, str],
    label_by_name: Mapping[str, int],
    *,
    partial: bool,
) -> tuple[dict[str, list[ObjectRecord]], int]:
    """Return the objects by picture, and how many pictures with objects are not there."""
    rows = _rows(path)
    _, heading = next(rows, (0, []))
    if lacking := [name for name in COLUMNS if name not in heading]:
        raise UserError(f"{path} has no column {', '.join(lacking)}; its columns are {heading}")
    columns = [heading.index(name) for name in COLUMNS]
    file_name = str(path)
    objects: defaultdict[str, list[ObjectRecord]] = defaultdict(list)
    missing: dict[str, int] = {}
    for line, row in rows:
        place = f"{file_name}, line {line}"
        if len(row) != len(heading):
            raise UserError(f"{place}: {len(row)} values for {len(heading)} columns; correct it")
        stem, code, group, *texts = [row[column] for column in columns]
        if code not in names:
            raise UserError(f"{place}: class {code} is not described; add it or remove the line")
        confidence, *box = _numbers(texts, place)
        label = label_by_name.get(names[code])
        if label is None or confidence == 0:
            continue
        if header := headers.get(stem):
            if group not in CROWD:
                raise UserError(
                    f"{place}: IsGroupOf is {group!r}; one of {', '.join(CROWD)} is needed"
                )
            found = ObjectRecord(header.pixels(*box), label, place, CROWD[group])
            objects[stem].append(found)
        else:
            missing.setdefault(stem, line)
    if missing and not partial:
        stem, line = next(iter(missing.items()))
        raise UserError(
            f"{path}, line {line}: no picture {stem}.jpg in its folder ({len(missing)} such "
            "pictures in all); fetch them, or data.read.partial=true takes those that are there"
        )
    return objects, len(missing)


def _numbers(texts: Sequence[str], place: str) -> list[float]:
    try:
        numbers = [float(text) for text in texts]
    except ValueError as error:
        raise UserError(f"{place}: {texts} are not numbers; correct or remove it") from error
    if not all(map(math.isfinite, numbers)):
        raise UserError(f"{place}: {texts} are not finite; correct or remove it")
    return numbers


def _occurring(splits: Mapping[str, AnnotationIndex]) -> dict[str, AnnotationIndex]:
    """Return the splits with those classes of which one of them has an object."""
    kept = np.unique(np.concatenate([index.labels for index in splits.values()]))
    if not len(kept):
        raise UserError("data.read.classes=occurring: no split has an object; name the classes")
    return {
        name: replace(
            index,
            labels=np.searchsorted(kept, index.labels),
            class_names=tuple(index.class_names[label] for label in kept),
            category_ids=index.category_ids[kept],
        )
        for name, index in splits.items()
    }

"""Reads object annotations in the XML format of Pascal VOC (VOC2012 devkit, Sec. 5)."""

import math
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image, UnidentifiedImageError

from compound.errors import UserError
from efficientdet.data.index import AnnotationIndex, ObjectRecord, PictureRecord, build_index

LAYOUT = "Annotations/*.xml, JPEGImages/ and ImageSets/Main/<split>.txt"
CORNERS = ("xmin", "ymin", "xmax", "ymax")
MAX_SPLITS_SHOWN = 20


def read_voc(
    root: Path, split: str, *, class_names: Sequence[str] | None = None
) -> AnnotationIndex:
    """Return the pictures and boxes of one split of a data set in VOC's layout.

    The original devkit counts pixels from 1 and includes the right and bottom ones; most tools
    since write 0-based exclusive corners into the same tags, and a file does not say which it
    holds. Corners are read as written, which is off by one pixel at most. Objects marked
    ``difficult`` become crowd: training skips them and evaluation ignores them, as VOC's does.
    An object that a file lists twice counts once.
    Image ids are 1-based positions among all XML files, so they are the same in every split.

    Args:
        root: The folder with ``Annotations``, ``JPEGImages`` and ``ImageSets/Main``.
        split: The name of a list in ``ImageSets/Main``, without ``.txt``.
        class_names: The classes in order of their labels; None takes the sorted names in all XML
            files, so that splits agree.

    Raises:
        UserError: The layout is incomplete, an XML file malformed, or a class unknown.
    """
    annotation_dir, image_dir = root / "Annotations", root / "JPEGImages"
    for folder in (annotation_dir, image_dir):
        if not folder.is_dir():
            raise UserError(f"no folder {folder}; the layout expected in {root} is {LAYOUT}")
    stems = sorted(path.stem for path in annotation_dir.glob("*.xml"))
    ids = {stem: position for position, stem in enumerate(stems, start=1)}
    list_file = _list_file(root, split)
    names = _collect_names(annotation_dir, stems) if class_names is None else list(class_names)
    labels = {name: label for label, name in enumerate(names)}
    pictures = [
        _read_picture(annotation_dir / f"{stem}.xml", image_dir, ids[stem], labels)
        for stem in _listed_stems(list_file, ids)
    ]
    return build_index(
        pictures,
        source=list_file,
        image_dir=image_dir,
        class_names=names,
        category_ids=range(1, len(names) + 1),
        drop_repeats=True,
    )


def _list_file(root: Path, split: str) -> Path:
    list_file = root / "ImageSets" / "Main" / f"{split}.txt"
    if not list_file.is_file():
        found = sorted(path.stem for path in list_file.parent.glob("*.txt"))
        more = ", ..." if len(found) > MAX_SPLITS_SHOWN else ""
        raise UserError(
            f"no split list {list_file}; the splits there are: "
            f"{', '.join(found[:MAX_SPLITS_SHOWN]) or 'none'}{more}"
        )
    return list_file


def _listed_stems(list_file: Path, ids: dict[str, int]) -> list[str]:
    stems = []
    for line in list_file.read_text(encoding="utf-8").splitlines():
        if not line.strip():
            continue
        # Per-class lists have a second column, but a stem may contain a space itself.
        stem = line.strip() if line.strip() in ids else line.split()[0]
        if ".." in Path(stem).parts:
            raise UserError(f"{list_file}: {stem!r} leaves the data folder; give a name inside it")
        if stem not in ids:
            raise UserError(f"{list_file} lists {stem!r}, but there is no Annotations/{stem}.xml")
        stems.append(stem)
    return stems


def _parse(xml_file: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(xml_file).getroot()
    except ElementTree.ParseError as error:
        raise UserError(
            f"{xml_file} is not XML ({error}); correct it or take it off its list"
        ) from error


def _collect_names(annotation_dir: Path, stems: Sequence[str]) -> list[str]:
    names: set[str] = set()
    for stem in stems:
        xml_file = annotation_dir / f"{stem}.xml"
        names.update(_name(item, xml_file) for item in _parse(xml_file).findall("object"))
    if not names:
        raise UserError(f"no object in any XML file of {annotation_dir}; nothing to learn from")
    return sorted(names)


def _name(item: ElementTree.Element, xml_file: Path) -> str:
    name = (item.findtext("name") or "").strip()
    if not name:
        raise UserError(f"{xml_file}: an object has no <name>; give it its class")
    return name


def _read_picture(
    xml_file: Path, image_dir: Path, image_id: int, labels: dict[str, int]
) -> PictureRecord:
    tree = _parse(xml_file)
    named = (tree.findtext("filename") or "").strip()
    file_name = named if named and (image_dir / named).is_file() else f"{xml_file.stem}.jpg"
    width, height = (_size(tree, key) for key in ("width", "height"))
    if width == 0 or height == 0:
        width, height = _picture_size(image_dir / file_name, xml_file)
    objects = [
        _read_object(item, xml_file, position, labels)
        for position, item in enumerate(tree.findall("object"), start=1)
    ]
    return PictureRecord(image_id, file_name, width, height, objects)


def _size(tree: ElementTree.Element, key: str) -> int:
    """Return a side from ``<size>``, 0 where it is missing or is not a positive number."""
    text = (tree.findtext(f"size/{key}") or "").strip()
    return int(text) if text.isdecimal() else 0


def _picture_size(path: Path, xml_file: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as picture:
            return picture.size
    except (OSError, UnidentifiedImageError) as error:
        raise UserError(
            f"{xml_file} has no <size> and its picture {path} cannot be read ({error})"
        ) from error


def _read_object(
    item: ElementTree.Element, xml_file: Path, position: int, labels: dict[str, int]
) -> ObjectRecord:
    name = _name(item, xml_file)
    place = f"{xml_file}, object {position} ({name})"
    if name not in labels:
        raise UserError(f"{place}: unknown class; the classes are {', '.join(labels)}")
    texts = [item.findtext(f"bndbox/{key}") for key in CORNERS]
    try:
        x0, y0, x1, y1 = (float(text or "") for text in texts)
    except ValueError as error:
        raise UserError(f"{place}: <bndbox> is {texts}; four numbers are needed") from error
    if not all(map(math.isfinite, (x0, y0, x1, y1))):
        raise UserError(f"{place}: <bndbox> is {texts}; finite numbers are needed")
    difficult = (item.findtext("difficult") or "0").strip() == "1"
    return ObjectRecord((x0, y0, x1, y1), labels[name], place, difficult)

"""What is wrong in a file has one answer, whatever the format; docs/data.md has them in a table."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from compound.errors import UserError
from efficientdet.data.coco import read_coco
from efficientdet.data.index import AnnotationIndex
from efficientdet.data.openimages import read_openimages
from efficientdet.data.voc import read_voc
from efficientdet.data.yolo import read_yolo

WIDTH, HEIGHT = 100, 50
Box = tuple[float, float, float, float]
Things = Sequence[tuple[str, Box]]
SOUND = ("cat", (10, 10, 20, 20))


class Format(NamedTuple):
    """How a format is written and read, and how it names the first object of picture ``a``."""

    write: Callable[[Path, Mapping[str, Things]], None]
    read: Callable[[Path], AnnotationIndex]
    place: str


def draw(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / name)


def write_coco(root: Path, pictures: Mapping[str, Things]) -> None:
    draw(root / "train2017", *(f"{name}.jpg" for name in pictures))
    things = [(i, thing) for i, name in enumerate(pictures) for thing in pictures[name]]
    ids = {"cat": 1, "dog": 5, "owl": 9}
    content = {
        "images": [
            {"id": i, "file_name": f"{name}.jpg", "width": WIDTH, "height": HEIGHT}
            for i, name in enumerate(pictures)
        ],
        "annotations": [
            {"id": i, "image_id": image_id, "category_id": ids[name], "bbox": [x, y, X - x, Y - y]}
            for i, (image_id, (name, (x, y, X, Y))) in enumerate(things)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 5, "name": "dog"}],
    }
    (root / "instances.json").write_text(json.dumps(content))


def write_voc(root: Path, pictures: Mapping[str, Things]) -> None:
    draw(root / "JPEGImages", *(f"{name}.jpg" for name in pictures))
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for picture, things in pictures.items():
        objects = [
            f"<object><name>{name}</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin>"
            f"<xmax>{X}</xmax><ymax>{Y}</ymax></bndbox></object>"
            for name, (x, y, X, Y) in things
        ]
        text = f"<annotation>{''.join(objects)}</annotation>"
        (root / "Annotations" / f"{picture}.xml").write_text(text)
    (root / "ImageSets/Main/train.txt").write_text("\n".join(pictures))


def write_yolo(root: Path, pictures: Mapping[str, Things]) -> None:
    draw(root / "images", *(f"{name}.jpg" for name in pictures))
    (root / "labels").mkdir()
    ids = {"cat": 0, "dog": 4, "owl": 9}
    for picture, things in pictures.items():
        lines = [
            f"{ids[name]} {(x + X) / 2 / WIDTH} {(y + Y) / 2 / HEIGHT} {(X - x) / WIDTH} "
            f"{(Y - y) / HEIGHT}\n"
            for name, (x, y, X, Y) in things
        ]
        (root / "labels" / f"{picture}.txt").write_text("".join(lines))
    text = "train: images\nval: images\nnames: {4: dog, 0: cat}\n"
    (root / "data.yaml").write_text(text)


def write_openimages(root: Path, pictures: Mapping[str, Things]) -> None:
    draw(root / "train", *(f"{name}.jpg" for name in pictures))
    (root / "class-descriptions-boxable.csv").write_text("/m/c,cat\n/m/x,fox\n/m/d,dog\n")
    codes = {"cat": "/m/c", "dog": "/m/d", "owl": "/m/o"}
    lines = ["ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf"]
    for picture, things in pictures.items():
        for name, (x, y, X, Y) in things:
            box = f"{x / WIDTH},{X / WIDTH},{y / HEIGHT},{Y / HEIGHT}"
            lines.append(f"{picture},xclick,{codes[name]},1,{box},0")
    (root / "train-annotations-bbox.csv").write_text("\n".join(lines))


def read_openimages_train(root: Path) -> AnnotationIndex:
    return read_openimages(root, {"train": "train"}, classes=["cat", "dog"])["train"]


FORMATS = {
    "coco": Format(
        write_coco,
        lambda root: read_coco(root / "instances.json", root / "train2017"),
        r"instances\.json: annotation(s\[0\]| 0)",
    ),
    "voc": Format(
        write_voc,
        lambda root: read_voc(root, "train", class_names=["cat", "dog"]),
        r"Annotations/a\.xml, object 1",
    ),
    "yolo": Format(
        write_yolo,
        lambda root: read_yolo(root / "data.yaml")["train"],
        r"labels/a\.txt, line 1",
    ),
    "openimages": Format(
        write_openimages, read_openimages_train, r"train-annotations-bbox\.csv, line 2"
    ),
}


@pytest.fixture(params=FORMATS)
def kind(request: pytest.FixtureRequest) -> Format:
    return FORMATS[request.param]


def index_of(kind: Format, root: Path, *things: tuple[str, Box]) -> AnnotationIndex:
    kind.write(root, {"a": things, "b": [SOUND]})
    return kind.read(root)


def assert_boxes(index: AnnotationIndex, *boxes: Box) -> None:
    # Shares of the picture are written and read back through several roundings.
    assert index.boxes.tolist() == [pytest.approx(box, abs=1e-9) for box in boxes]


def test_sound_boxes_and_class_ids_with_holes(kind: Format, tmp_path: Path) -> None:
    index = index_of(kind, tmp_path, ("dog", (0, 1, 30.5, 50)), ("cat", (2, 3, 4, 5)))
    assert_boxes(index, (0, 1, 30.5, 50), (2, 3, 4, 5), SOUND[1])
    assert index.class_names == ("cat", "dog")
    assert index.labels.tolist() == [1, 0, 0]
    assert index.sizes.tolist() == [[WIDTH, HEIGHT]] * 2
    assert index.repairs == {}


def test_box_that_reaches_outside_is_clipped(kind: Format, tmp_path: Path) -> None:
    index = index_of(kind, tmp_path, ("cat", (-10, 10, 40, 60)))
    assert_boxes(index, (0, 10, 40, 50), SOUND[1])
    assert index.repairs == {"boxes clipped to the picture": 1}


@pytest.mark.parametrize(
    ("box", "repair"),
    [
        ((30, 5, 20, 15), "inverted boxes dropped"),
        ((30, 15, 40, 5), "inverted boxes dropped"),
        ((50, 5, 50, 15), "zero-size boxes dropped"),
        ((100, 5, 120, 15), "boxes outside the picture dropped"),
        ((5, -20, 15, -10), "boxes outside the picture dropped"),
    ],
)
def test_box_without_an_inside_is_dropped(
    kind: Format, tmp_path: Path, box: Box, repair: str
) -> None:
    index = index_of(kind, tmp_path, ("dog", box), ("cat", (1, 2, 3, 4)))
    assert_boxes(index, (1, 2, 3, 4), SOUND[1])
    assert index.labels.tolist() == [0, 0]
    assert index.repairs == {repair: 1}


def test_unit_that_no_box_of_a_split_fits_is_refused(kind: Format, tmp_path: Path) -> None:
    kind.write(tmp_path, {"a": [("cat", (1000, 2000, 3000, 4000))]})
    with pytest.raises(UserError, match=r"all 1 boxes lie outside .* that of .*(0|1|2).*; check"):
        kind.read(tmp_path)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_coordinate_that_is_not_finite_is_refused(kind: Format, tmp_path: Path, bad: float) -> None:
    with pytest.raises(UserError, match=rf"{kind.place}.*(nan|inf).* finite"):
        index_of(kind, tmp_path, ("cat", (1, 2, 3, bad)), ("cat", (1, 2, 3, 4)))


def test_unknown_class_is_refused(kind: Format, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=kind.place):
        index_of(kind, tmp_path, ("owl", (1, 2, 3, 4)))


def test_picture_without_objects_is_empty(kind: Format, tmp_path: Path) -> None:
    index = index_of(kind, tmp_path)
    assert index.file_names.tolist() in (["a.jpg", "b.jpg"], ["images/a.jpg", "images/b.jpg"])
    assert index.offsets.tolist() == [0, 0, 1]


def picture_of(root: Path, name: str) -> Path:
    (path,) = root.glob(f"*/{name}.jpg")
    return path


def test_missing_picture_is_refused(kind: Format, tmp_path: Path) -> None:
    kind.write(tmp_path, {"a": [SOUND], "b": []})
    picture_of(tmp_path, "a").unlink()
    # A YOLO folder is its own list: its picture is not missing, its label file is left over.
    if kind is FORMATS["yolo"]:
        (tmp_path / "labels" / "b.txt").write_text("")
        assert kind.read(tmp_path).repairs == {"label files without a picture left out": 1}
    else:
        with pytest.raises(UserError, match=r"a\.jpg"):
            kind.read(tmp_path)


def test_picture_behind_a_link_is_read(kind: Format, tmp_path: Path) -> None:
    kind.write(tmp_path / "set", {"a": [SOUND]})
    path = picture_of(tmp_path / "set", "a")
    path.rename(tmp_path / "elsewhere.jpg")
    path.symlink_to(tmp_path / "elsewhere.jpg")
    assert_boxes(kind.read(tmp_path / "set"), SOUND[1])


def test_object_twice_is_one_but_for_coco(kind: Format, tmp_path: Path) -> None:
    index = index_of(kind, tmp_path, SOUND, ("dog", SOUND[1]), SOUND)
    if kind is FORMATS["coco"]:
        # Two ids are two objects, and pycocotools counts both.
        assert index.labels.tolist() == [0, 1, 0, 0]
        assert index.repairs == {}
    else:
        assert index.labels.tolist() == [0, 1, 0]
        assert index.repairs == {"repeated objects dropped": 1}


def name_a_picture(kind: Format, root: Path, name: str) -> None:
    """Let the annotations name a file for picture ``a``."""
    if kind is FORMATS["coco"]:
        file = root / "instances.json"
        file.write_text(file.read_text().replace('"a.jpg"', json.dumps(name)))
    elif kind is FORMATS["voc"]:
        file = root / "Annotations" / "a.xml"
        tag = f"<annotation><filename>{name}</filename>"
        file.write_text(file.read_text().replace("<annotation>", tag))
    elif kind is FORMATS["yolo"]:
        (root / "train.txt").write_text(f"images/b.jpg\n{name}\n")
        text = "train: train.txt\nval: images\nnames: {4: dog, 0: cat}\n"
        (root / "data.yaml").write_text(text)
    else:
        file = root / "train-annotations-bbox.csv"
        file.write_text(file.read_text().replace("\na,", f"\n{Path(name).with_suffix('')},"))


@pytest.mark.parametrize("where", ["above", "absolute", "drive"])
def test_file_name_that_leaves_the_folder_is_refused(
    kind: Format, tmp_path: Path, where: str
) -> None:
    root = tmp_path / "set"
    kind.write(root, {"a": [SOUND], "b": [SOUND]})
    outside = tmp_path / "outside.jpg"
    draw(tmp_path, outside.name)
    depth = "../../" if kind in (FORMATS["coco"], FORMATS["voc"]) else "../"
    names = {"above": f"{depth}outside.jpg", "absolute": str(outside), "drive": "C:\\outside.jpg"}
    name_a_picture(kind, root, names[where])
    if kind is FORMATS["voc"] and where == "drive":
        # Annotation tools write paths of their own machine: the file beside counts.
        assert kind.read(root).file_names.tolist() == ["a.jpg", "b.jpg"]
        return
    with pytest.raises(UserError, match=r"outside"):
        kind.read(root)


def test_picture_listed_twice_is_refused(tmp_path: Path) -> None:
    voc, yolo = tmp_path / "voc", tmp_path / "yolo"
    FORMATS["voc"].write(voc, {"a": [SOUND]})
    (voc / "ImageSets/Main/train.txt").write_text("a\na\n")
    with pytest.raises(UserError, match=r"train\.txt: image id 1 occurs twice \(a\.jpg and a\.jpg"):
        FORMATS["voc"].read(voc)
    FORMATS["yolo"].write(yolo, {"a": [SOUND]})
    name_a_picture(FORMATS["yolo"], yolo, "./images/a.jpg\nimages/a.jpg")
    with pytest.raises(UserError, match=r"labels/a\.txt belongs to 2 pictures of train"):
        FORMATS["yolo"].read(yolo)

"""YOLO's text files: what is read, and one clear message for each thing that is wrong."""

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from compound.errors import UserError
from efficientdet.data.coco import read_coco
from efficientdet.data.splits import yolo_splits
from efficientdet.data.yolo import read_yolo
from efficientdet.data.yolo_layout import label_file

YAML = "train: images/train\nval: images/val\nnames: [cat, dog]\n"


def draw(path: Path, *, orientation: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (200, 100)).save(path, exif=exif)


def write(root: Path, name: str, *lines: str) -> None:
    """Draw a picture of 200 x 100 pixels, and write its labels if it has any."""
    draw(root / "images" / name)
    if lines:
        path = (root / "labels" / name).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data.yaml").write_text(YAML)
    write(tmp_path, "train/b.jpg", "1 0.5 0.5 0.2 0.4", "0 0.1 0.2 0.1 0.2", "")
    write(tmp_path, "train/sub/c.png", "0.0 0.25 0.5 0.5 1")
    write(tmp_path, "val/a.jpg", "1 0.5 0.5 1 1")
    write(tmp_path, "train/empty.jpg", "")
    write(tmp_path, "train/none.jpg")
    return tmp_path


def test_boxes_sizes_and_ids(root: Path) -> None:
    splits = read_yolo(root / "data.yaml")
    train, val = splits["train"], splits["val"]
    assert train.image_dir == root
    assert train.file_names.tolist() == [
        f"images/train/{name}" for name in ("b.jpg", "empty.jpg", "none.jpg", "sub/c.png")
    ]
    # Positions among the pictures of both splits, which val comes last of.
    assert (train.image_ids.tolist(), val.image_ids.tolist()) == ([1, 2, 3, 4], [5])
    assert train.sizes.tolist() == [[200, 100]] * 4
    # 0.5 * 200 -+ 0.2 * 200 / 2 and 0.5 * 100 -+ 0.4 * 100 / 2, and so on.
    expected = [[80, 30, 120, 70], [10, 10, 30, 30], [0, 0, 100, 100]]
    np.testing.assert_allclose(train.boxes, expected, rtol=0, atol=1e-9)
    assert train.labels.tolist() == [1, 0, 0]
    assert train.offsets.tolist() == [0, 2, 2, 2, 3]
    assert not train.crowd.any()
    np.testing.assert_allclose(train.areas, [1600, 400, 10000])
    assert train.repairs == val.repairs == {}


def test_polygon_becomes_its_box(root: Path) -> None:
    write(root, "val/a.jpg", "0 0.1 0.5 0.4 0.2 0.3 0.9", "1 0.1 0.1 0.9 0.1 0.9 0.3 0.1 0.3")
    index = read_yolo(root / "data.yaml")["val"]
    # x: 0.1..0.4 of 200, y: 0.2..0.9 of 100.
    np.testing.assert_allclose(index.boxes, [[20, 20, 80, 90], [20, 10, 180, 30]])


def test_repeated_line_counts_once(root: Path) -> None:
    # The second is the same written otherwise, the third another class.
    write(root, "val/a.jpg", "0 .5 .5 .1 .1", "0 0.50 0.5 0.1 0.1", "1 .5 .5 .1 .1")
    index = read_yolo(root / "data.yaml")["val"]
    assert index.labels.tolist() == [0, 1]
    assert index.repairs == {"repeated objects dropped": 1}


def test_names_with_holes(root: Path) -> None:
    text = YAML.replace("[cat, dog]", "{7: owl, 0: cat, 1: dog}\nnc: 8")
    (root / "data.yaml").write_text(text)
    write(root, "val/a.jpg", "7 .5 .5 .1 .1", "1 .2 .2 .1 .1")
    index = read_yolo(root / "data.yaml")["val"]
    assert index.class_names == ("cat", "dog", "owl")
    assert index.category_ids.tolist() == [0, 1, 7]
    assert index.labels.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("picture", "labels"),
    [
        ("set/images/train/a.b.jpg", "set/labels/train/a.b.txt"),
        ("set/train/images/a.png", "set/train/labels/a.txt"),
        ("images/images/sub/a.jpg", "images/labels/sub/a.txt"),
        ("set/pictures/images.jpg", "set/pictures/images.txt"),
    ],
)
def test_where_labels_are(picture: str, labels: str) -> None:
    assert label_file(Path(picture)) == Path(labels)


def test_layout_of_exports(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Roboflow's: ../ although the folders are beside the file, and a test split that is not there.
    text = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 1\n"
    (tmp_path / "data.yaml").write_text(text + "names: ['cat']\n")
    for split in ("train", "valid"):
        draw(tmp_path / split / "images" / f"{split}.jpg")
        (tmp_path / split / "labels").mkdir()
        (tmp_path / split / "labels" / f"{split}.txt").write_text("0 .5 .5 .1 .1\n")
    splits = yolo_splits(tmp_path)
    assert {name: index.file_names.tolist() for name, index in splits.items()} == {
        "train": ["train/images/train.jpg"],
        "val": ["valid/images/valid.jpg"],
    }
    (told,) = [record.getMessage() for record in caplog.records]
    assert "data.yaml: test is left out, as" in told


def test_test_split_without_labels_is_left_out(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (root / "data.yaml").write_text(YAML + "test: images/test\n")
    write(root, "test/t.jpg")
    with caplog.at_level(logging.WARNING):
        assert list(read_yolo(root / "data.yaml")) == ["train", "val"]
    assert "test is left out, as it has no label files" in caplog.text
    write(root, "test/t.jpg", "0 .5 .5 .1 .1")
    assert list(read_yolo(root / "data.yaml")) == ["train", "val", "test"]


@pytest.mark.parametrize("path", ["", "path: .", "path: /nowhere/else", "path: ../{name}"])
def test_folder_that_path_names(root: Path, path: str) -> None:
    (root / "other.yaml").write_text(f"{path.format(name=root.name)}\n{YAML}")
    assert len(yolo_splits(root, data_yaml="other.yaml")["train"]) == 4
    assert len(yolo_splits(root / "other.yaml")["train"]) == 4


def test_yaml_in_a_folder_of_its_own(root: Path) -> None:
    (root / "config").mkdir()
    (root / "config" / "set.yaml").write_text(f"path: ..\n{YAML}")
    assert len(yolo_splits(root / "config" / "set.yaml")["val"]) == 1


def test_lists_of_folders_and_of_pictures(root: Path) -> None:
    write(root, "more/m.jpg", "0 .5 .5 .1 .1")
    lists = root / "lists"
    lists.mkdir()
    # Relative to the list, relative to the root, and absolute.
    text = f"../images/val/a.jpg\nimages/train/b.jpg\n\n{root}/images/more/m.jpg\n"
    (lists / "val.txt").write_text(text)
    text = "train: [images/train, images/more]\nval: lists/val.txt\nnames: [cat, dog]\n"
    (root / "data.yaml").write_text(text)
    splits = read_yolo(root / "data.yaml")
    # In order of paths: more/m, train/b, empty, none, sub/c, val/a.
    assert splits["train"].image_ids.tolist() == [1, 2, 3, 4, 5]
    assert splits["val"].image_ids.tolist() == [1, 2, 6]


def test_hidden_files_and_other_files_are_no_pictures(root: Path) -> None:
    for name in ("._b.jpg", "notes.md", "b.txt"):
        (root / "images" / "train" / name).touch()
    assert len(read_yolo(root / "data.yaml")["train"]) == 4


def test_label_files_without_a_picture_are_counted(root: Path) -> None:
    for name in ("gone.txt", "lost.txt", "classes.txt"):
        (root / "labels" / "train" / name).write_text("0 .5 .5 .1 .1")
    splits = read_yolo(root / "data.yaml")
    assert splits["train"].repairs == {"label files without a picture left out": 2}
    assert splits["val"].repairs == {}


def test_no_picture_is_decoded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without EXIF data, which a PNG could have behind its pixels.
    Image.new("L", (200, 100)).save(root / "images" / "train" / "sub" / "c.png")
    decoded = []
    for kind in (PngImageFile, JpegImageFile):
        monkeypatch.setattr(kind, "load", lambda picture: decoded.append(picture))
    assert len(read_yolo(root / "data.yaml")["train"]) == 4
    assert decoded == []


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("name", ["b.jpg", "sub/c.png"])
def test_exif_orientation_is_refused(root: Path, name: str, orientation: int) -> None:
    draw(root / "images" / "train" / name, orientation=orientation)
    with pytest.raises(UserError, match=rf"{name} has an EXIF orientation \(1 such of 4 .*mogrify"):
        read_yolo(root / "data.yaml")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 .5 .5 .1 .1", "class 2 is not among the 2"),
        ("0.5 .5 .5 .1 .1", r"class 0\.5 is not among"),
        ("-1 .5 .5 .1 .1", "class -1 is not"),
        ("nan .5 .5 .1 .1", "class nan is not"),
        ("cat .5 .5 .1 .1", "'cat .5 .5 .1 .1' holds what is no number"),
        ("0,.5,.5,.1,.1", "holds what is no number"),
        ("0 .5 .5 .1", "has 3 numbers after the class"),
        ("0 .5 .5 .1 .1 .9", "has 5 numbers after the class"),
        ("0 .1 .1 .2 .2 .3 .3 .4", "has 7 numbers after the class"),
        ("0 .1 .1 .2 nan .3 .3", "is not finite"),
        ("0 .1 .1 .2 inf .3 .3", "is not finite"),
    ],
)
def test_wrong_line_is_named(root: Path, line: str, message: str) -> None:
    write(root, "val/a.jpg", "0 .5 .5 .1 .1", line)
    with pytest.raises(UserError, match=rf"labels/val/a\.txt, line 2: .*{message}"):
        read_yolo(root / "data.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: [", "is not YAML"),
        ("- a", "holds no keys"),
        (YAML.replace("names", "classes"), "names is None"),
        (YAML.replace("[cat, dog]", "[]"), r"names is \[\]"),
        (YAML.replace("[cat, dog]", "[cat, cat]"), "two classes are called 'cat'"),
        (YAML.replace("[cat, dog]", "[yes, no]"), "class 0 is called True; put it in quotes"),
        (YAML.replace("[cat, dog]", "{a: cat}"), "names has the class id 'a'"),
        (YAML.replace("[cat, dog]", "{-1: cat}"), "names has the class id -1"),
        (YAML + "nc: 3", "nc is 3, but names has 2"),
        (YAML + "path: [a]", r"path is \['a'\]"),
        (YAML + "kpt_shape: [17, 3]", "kpt_shape says that the labels are poses"),
        (YAML.replace("val:", "valid:"), "val is None"),
        (YAML.replace("images/val", "[images/val, 3]"), r"val is \['images/val', 3\]"),
        (YAML.replace("images/val", "gone"), "val cannot be read, as .*gone is neither"),
        (
            YAML.replace("images/val", "data.yaml"),
            r"val cannot be read, as .*data\.yaml is neither",
        ),
        (YAML.replace("images/val", "labels"), "val cannot be read, as .*labels holds no picture"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
    ],
)
def test_wrong_yaml_is_named(root: Path, text: str, message: str) -> None:
    (root / "data.yaml").write_text(text)
    with pytest.raises(UserError, match=rf"data\.yaml.* {message}"):
        read_yolo(root / "data.yaml")


def test_missing_yaml_names_those_there(root: Path) -> None:
    with pytest.raises(UserError, match=r"no file .*set\.yaml \(YAML files there: data\.yaml\)"):
        yolo_splits(root, data_yaml="set.yaml")
    with pytest.raises(UserError, match=r"data\.root=.*nowhere: there is no such folder"):
        yolo_splits(root / "nowhere")


def test_split_without_any_label_file_tells_where_they_are_sought(root: Path) -> None:
    (root / "labels").rename(root / "annotations")
    with pytest.raises(
        UserError, match=r"none of the 4 pictures of train has a label .*labels/train/b\.txt"
    ):
        read_yolo(root / "data.yaml")


def test_pictures_alike_but_for_their_ending_are_refused(root: Path) -> None:
    write(root, "train/b.png")
    with pytest.raises(UserError, match=r"labels/train/b\.txt belongs to 2 pictures of train"):
        read_yolo(root / "data.yaml")


def test_listed_picture_that_is_missing_or_broken(root: Path) -> None:
    (root / "train.txt").write_text("images/train/b.jpg\nimages/train/gone.jpg\n")
    (root / "data.yaml").write_text(YAML.replace("images/train", "train.txt"))
    with pytest.raises(UserError, match=r"data\.yaml: .*gone\.jpg is missing \(1 such of 2"):
        read_yolo(root / "data.yaml")
    (root / "images" / "train" / "gone.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"data\.yaml: .*gone\.jpg cannot be read \(1 such of 2"):
        read_yolo(root / "data.yaml")


@pytest.mark.real
def test_pictures_of_coco_read_as_coco_does(compound_data: Path, tmp_path: Path) -> None:
    coco = compound_data / "data" / "coco"
    expected = read_coco(coco / "annotations" / "instances_val2017.json", coco / "val2017")
    content = json.loads((coco / "annotations" / "instances_val2017.json").read_text())
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for image in content["images"]:
        source = coco / "val2017" / image["file_name"]
        os.symlink(source, tmp_path / "images" / image["file_name"])
        lines = []
        for item in content["annotations"]:
            if item["image_id"] == image["id"]:
                x, y, w, h = item["bbox"]
                W, H = image["width"], image["height"]
                shares = ((x + w / 2) / W, (y + h / 2) / H, w / W, h / H)
                lines.append(" ".join(map(str, (item["category_id"], *shares))))
        path = tmp_path / "labels" / Path(image["file_name"]).with_suffix(".txt")
        path.write_text("\n".join(lines))
    names = {item["id"]: item["name"] for item in content["categories"]}
    text = f"train: images\nval: images\nnames: {json.dumps(names)}".replace('"', "'")
    for class_id in names:
        text = text.replace(f"'{class_id}'", str(class_id))
    (tmp_path / "data.yaml").write_text(text)
    index = read_yolo(tmp_path / "data.yaml")["val"]
    assert index.class_names == expected.class_names
    assert index.category_ids.tolist() == expected.category_ids.tolist()
    assert index.sizes.tolist() == expected.sizes.tolist()
    assert index.labels.tolist() == expected.labels.tolist()
    np.testing.assert_allclose(index.boxes, expected.boxes, rtol=0, atol=1e-9)

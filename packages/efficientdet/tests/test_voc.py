"""Pascal VOC's XML: what is read, and one clear message for each thing that is wrong."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compound.errors import UserError
from efficientdet.data.voc import read_voc

SIZE = "<size><width>100</width><height>50</height></size>"


def thing(name: str, *corners: float | str, extra: str = "") -> str:
    tags = ("xmin", "ymin", "xmax", "ymax")
    box = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(tags, corners, strict=True))
    return f"<object><name>{name}</name>{extra}<bndbox>{box}</bndbox></object>"


def write(root: Path, stem: str, *objects: str, size: str = SIZE, filename: str = "") -> None:
    text = f"<annotation><filename>{filename}</filename>{size}{''.join(objects)}</annotation>"
    (root / "Annotations" / f"{stem}.xml").write_text(text)
    Image.new("RGB", (33, 22)).save(root / "JPEGImages" / f"{stem}.jpg")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    write(tmp_path, "p1", thing("dog", 0, 1, 20, 30), thing("cat", 5, 6, 7, 8))
    write(tmp_path, "p2", thing("ant", 1, 1, 9, 9))
    write(tmp_path, "p3")
    lists = tmp_path / "ImageSets" / "Main"
    (lists / "train.txt").write_text("p3 -1\np1  1\n\n")
    (lists / "val.txt").write_text("p2\n")
    return tmp_path


def test_one_split(root: Path) -> None:
    index = read_voc(root, "train")
    # The classes are those of every file, so "ant" counts although only val has one.
    assert index.class_names == ("ant", "cat", "dog")
    assert index.category_ids.tolist() == [1, 2, 3]
    assert index.image_ids.tolist() == [1, 3]
    assert index.file_names.tolist() == ["p1.jpg", "p3.jpg"]
    assert index.sizes.tolist() == [[100, 50]] * 2
    # As written: neither 1 subtracted from the left nor added to the right.
    assert index.boxes.tolist() == [[0, 1, 20, 30], [5, 6, 7, 8]]
    assert index.areas.tolist() == [20 * 29, 4]
    assert index.labels.tolist() == [2, 1]
    assert index.rows(1) == slice(2, 2)


def test_splits_agree_on_ids_and_classes(root: Path) -> None:
    index = read_voc(root, "val")
    assert index.image_ids.tolist() == [2]
    assert index.class_names == read_voc(root, "train").class_names
    assert index.labels.tolist() == [0]


def test_given_class_names_keep_their_order(root: Path) -> None:
    index = read_voc(root, "train", class_names=["dog", "cat"])
    assert index.labels.tolist() == [0, 1]


def test_difficult_objects_are_crowd(root: Path) -> None:
    objects = [thing("dog", 1, 1, 5, 5, extra=f"<difficult>{i}</difficult>") for i in (0, 1)]
    write(root, "p2", *objects)
    assert read_voc(root, "val").crowd.tolist() == [False, True]


def test_names_of_parts_are_no_objects(root: Path) -> None:
    part = f"<part><name>head</name>{thing('no', 1, 1, 2, 2)}</part>"
    write(root, "p2", thing("dog", 1, 1, 5, 5, extra=part))
    index = read_voc(root, "val")
    assert index.class_names == ("cat", "dog")
    assert len(index.boxes) == 1


def test_file_name_of_the_tag_if_it_exists(root: Path) -> None:
    Image.new("RGB", (8, 8)).save(root / "JPEGImages" / "other.png")
    write(root, "p2", filename="other.png")
    assert read_voc(root, "val").file_names.tolist() == ["other.png"]
    write(root, "p2", filename="gone.png")
    assert read_voc(root, "val").file_names.tolist() == ["p2.jpg"]


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>"])
def test_missing_size_is_read_from_the_picture(root: Path, size: str) -> None:
    write(root, "p2", size=size)
    assert read_voc(root, "val").sizes.tolist() == [[33, 22]]


def test_picture_needed_for_its_size_is_missing(root: Path) -> None:
    write(root, "p2", size="")
    (root / "JPEGImages" / "p2.jpg").unlink()
    with pytest.raises(UserError, match=r"p2\.xml has no <size> and its picture .*p2\.jpg cannot"):
        read_voc(root, "val")


def test_missing_picture_is_named(root: Path) -> None:
    (root / "JPEGImages" / "p3.jpg").unlink()
    with pytest.raises(UserError, match=r"train\.txt lists p3\.jpg, .*\(1 of the first 2"):
        read_voc(root, "train")


def test_malformed_xml_is_refused(root: Path) -> None:
    (root / "Annotations" / "p2.xml").write_text("<annotation><object>")
    with pytest.raises(UserError, match=r"p2\.xml is not XML"):
        read_voc(root, "val")


def test_unknown_class_is_refused(root: Path) -> None:
    with pytest.raises(UserError, match=r"p1\.xml, object 2 \(cat\): unknown class; .* are dog"):
        read_voc(root, "train", class_names=["dog"])


def test_object_without_name_is_refused(root: Path) -> None:
    write(root, "p2", thing(" ", 1, 1, 5, 5))
    with pytest.raises(UserError, match=r"p2\.xml: an object has no <name>"):
        read_voc(root, "val", class_names=["dog"])


@pytest.mark.parametrize("bad", ["", "seven", "nan", "inf"])
def test_corner_that_is_no_number_is_refused(root: Path, bad: str) -> None:
    write(root, "p2", thing("dog", 1, 1, 5, bad))
    with pytest.raises(UserError, match=rf"p2\.xml, object 1 \(dog\): <bndbox> is .*'{bad}'"):
        read_voc(root, "val")


def test_degenerate_boxes_are_dropped_and_counted(root: Path) -> None:
    write(root, "p2", thing("dog", 5, 5, 5, 5), thing("dog", 9, 1, 4, 5), thing("dog", 1, 1, 2, 2))
    index = read_voc(root, "val")
    assert index.boxes.tolist() == [[1, 1, 2, 2]]
    assert index.repairs == {"zero-size boxes dropped": 1, "inverted boxes dropped": 1}


def test_missing_list_names_the_splits(root: Path) -> None:
    with pytest.raises(UserError, match=r"no split list .*test\.txt; .* are: train, val$"):
        read_voc(root, "test")


def test_stem_without_annotation_is_refused(root: Path) -> None:
    (root / "ImageSets" / "Main" / "val.txt").write_text("p2\np9\n")
    with pytest.raises(UserError, match=r"val\.txt lists 'p9', but there is no Annotations/p9"):
        read_voc(root, "val")


def test_missing_folder_tells_the_layout(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no folder .*Annotations; .*ImageSets/Main/<split>\.txt"):
        read_voc(tmp_path, "train")


@pytest.mark.real
def test_blood_cells(compound_data: Path) -> None:
    root = compound_data / "data" / "bccd"
    splits = [read_voc(root, split) for split in ("train", "val", "test")]
    assert [len(index) for index in splits] == [205, 87, 72]
    assert {index.class_names for index in splits} == {("Platelets", "RBC", "WBC")}
    repairs = [index.repairs for index in splits if index.repairs]
    assert all(set(counts) == {"zero-size boxes dropped"} for counts in repairs)
    assert sum(counts["zero-size boxes dropped"] for counts in repairs) == 2
    ids = np.concatenate([index.image_ids for index in splits])
    assert sorted(ids.tolist()) == list(range(1, 365))

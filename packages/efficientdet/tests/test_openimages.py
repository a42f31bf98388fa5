"""Open Images' CSV files: what is read, and one clear message for each thing that is wrong."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compound.errors import UserError
from efficientdet.data.index import AnnotationIndex
from efficientdet.data.splits import openimages_splits

HEADING = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,"
    "IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
)
CLASSES = (
    "/m/011k07,Tortoise\n/m/01yrx,Cat\n/m/0bt9lr,Dog\n/m/0h8n5zk,Kitchen & dining room table\n"
)
TRAIN = [
    "b1,xclick,/m/0bt9lr,1,0.25,0.75,0.1,0.9,0,1,0,0,0",
    "b1,xclick,/m/01yrx,1,0.0,0.5,0.5,1.0,-1,-1,1,-1,-1",
    "a0,activemil,/m/01yrx,1,0.1,0.2,0.3,0.4,0,0,-1,1,0",
    "a0,xclick,/m/0bt9lr,0,0,1,0,1,0,0,0,0,0",
]
VALIDATION = ["v0,xclick,/m/01yrx,1,0,1,0,1,0,0,0,0,0"]


def draw(folder: Path, *stems: str, orientation: int = 1) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for stem in stems:
        Image.new("RGB", (200, 100)).save(folder / f"{stem}.jpg", exif=exif)


def write(root: Path, split: str, *rows: str) -> None:
    (root / f"{split}-annotations-bbox.csv").write_text("\n".join([HEADING, *rows]))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "class-descriptions-boxable.csv").write_text(CLASSES)
    draw(tmp_path / "train", "b1", "a0", "e0")
    draw(tmp_path / "validation", "v0")
    write(tmp_path, "train", *TRAIN)
    write(tmp_path, "validation", *VALIDATION)
    return tmp_path


def train_of(root: Path, *rows: str) -> AnnotationIndex:
    write(root, "train", *rows)
    return openimages_splits(root)["train"]


def test_boxes_crowd_and_ids(root: Path) -> None:
    splits = openimages_splits(root)
    train, val = splits["train"], splits["val"]
    assert train.image_dir == root / "train"
    assert train.file_names.tolist() == ["a0.jpg", "b1.jpg", "e0.jpg"]
    # Positions split by split, so that another split does not shift those before it.
    assert (train.image_ids.tolist(), val.image_ids.tolist()) == ([1, 2, 3], [4])
    assert train.sizes.tolist() == [[200, 100]] * 3
    # The row of confidence 0 says that there is no dog. x by 200, y by 100.
    expected = [[20, 30, 40, 40], [50, 10, 150, 90], [0, 50, 100, 100]]
    np.testing.assert_allclose(train.boxes, expected, rtol=0, atol=1e-9)
    assert train.offsets.tolist() == [0, 1, 3, 3]
    # -1 is "not known", which makes no group.
    assert train.crowd.tolist() == [False, False, True]
    assert train.class_names == val.class_names
    assert train.class_names == ("Tortoise", "Cat", "Dog", "Kitchen & dining room table")
    assert train.category_ids.tolist() == [1, 2, 3, 4]
    assert train.labels.tolist() == [1, 2, 1]
    assert train.repairs == {}


def test_third_split_and_the_same_picture_in_two(root: Path) -> None:
    splits = openimages_splits(root, test="validation")
    assert splits["test"].image_ids.tolist() == splits["val"].image_ids.tolist() == [4]


@pytest.mark.parametrize("heading", ["", "LabelName,DisplayName\n", "id,name\n"])
@pytest.mark.parametrize("name", ["class-descriptions", "oidv7-class-descriptions"])
def test_names_and_headings_of_releases(root: Path, name: str, heading: str) -> None:
    (root / "class-descriptions-boxable.csv").unlink()
    (root / f"{name}-boxable.csv").write_text(heading + CLASSES)
    text = (root / "train-annotations-bbox.csv").read_text()
    (root / "train-annotations-bbox.csv").unlink()
    # V6 has the extreme points that annotators clicked on.
    clicks = [f"XClick{i}{axis}" for axis in "XY" for i in range(1, 5)]
    lines = [f"{line},{','.join(['0.5'] * 8)}" for line in text.splitlines()[1:]]
    (root / "oidv6-train-annotations-bbox.csv").write_text(
        "\n".join([",".join([HEADING, *clicks]), *lines])
    )
    train = openimages_splits(root)["train"]
    assert train.labels.tolist() == [1, 2, 1]
    assert train.category_ids.tolist() == [1, 2, 3, 4]


def test_only_classes_that_occur(root: Path) -> None:
    splits = openimages_splits(root, classes="occurring")
    # No split has a tortoise; validation has no dog, but training has one.
    assert splits["train"].class_names == splits["val"].class_names == ("Cat", "Dog")
    assert splits["train"].category_ids.tolist() == [2, 3]
    assert splits["train"].labels.tolist() == [0, 1, 0]
    assert splits["val"].labels.tolist() == [0]


def test_only_named_classes(root: Path) -> None:
    splits = openimages_splits(root, classes=["Dog", "Tortoise"])
    assert splits["train"].class_names == ("Dog", "Tortoise")
    assert splits["train"].category_ids.tolist() == [3, 1]
    assert splits["train"].labels.tolist() == [0]
    # Its only object is a cat.
    assert len(splits["val"]) == 1
    assert len(splits["val"].boxes) == 0


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("some", "data.read.classes 'some' is unknown; accepted: all, occurring"),
        (["Dgo"], "class 'Dgo' is unknown; did you mean Dog"),
        ([], r"classes=\[\]: name each class once"),
        (["Cat", "Cat"], "name each class once"),
    ],
)
def test_classes_that_are_not_there_are_refused(
    root: Path, classes: str | list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        openimages_splits(root, classes=classes)  # pyright: ignore[reportArgumentType]


def test_pictures_that_are_not_there(root: Path) -> None:
    (root / "train" / "b1.jpg").unlink()
    with pytest.raises(
        UserError, match=r"bbox\.csv, line 2: no picture b1\.jpg .*\(1 such .*partial=true"
    ):
        openimages_splits(root)
    train = openimages_splits(root, partial=True)["train"]
    assert train.file_names.tolist() == ["a0.jpg", "e0.jpg"]
    assert train.repairs == {"pictures that are not there left out": 1}
    # It has neither of these, so that nobody needs it.
    assert openimages_splits(root, classes=["Tortoise"])["train"].repairs == {}


def test_turned_picture_is_taken_as_stored_and_told(root: Path) -> None:
    draw(root / "train", "b1", orientation=6)
    train = openimages_splits(root)["train"]
    assert train.sizes.tolist() == [[200, 100]] * 3
    assert train.repairs == {"pictures with an EXIF orientation taken as stored": 1}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("b1,xclick,/m/999,1,0,1,0,1,0,0,0,0,0", "class /m/999 is not described"),
        ("b1,xclick,/m/01yrx,1,0,x,0,1,0,0,0,0,0", "are not numbers"),
        ("b1,xclick,/m/01yrx,nan,0,1,0,1,0,0,0,0,0", "are not finite"),
        ("b1,xclick,/m/01yrx,1,0,1,0,1,0,0,yes,0,0", "IsGroupOf is 'yes'; one of 1, 0, -1"),
        ("b1,xclick,/m/01yrx,1,0,1", "6 values for 13 columns"),
    ],
)
def test_wrong_row_is_named(root: Path, row: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"train-annotations-bbox\.csv, line 3: .*{message}"):
        train_of(root, TRAIN[0], row)


def test_missing_column_is_named(root: Path) -> None:
    (root / "train-annotations-bbox.csv").write_text("ImageID,LabelName,Confidence\n")
    with pytest.raises(UserError, match=r"bbox\.csv has no column IsGroupOf, XMin, YMin, XMax"):
        openimages_splits(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "describes no class"),
        ("/m/01yrx\n", "line 1: .* is not a code and a name"),
        ("/m/01yrx,Cat\n/m/01yrx,Dog\n", "line 2: /m/01yrx or 'Dog' occurs twice"),
        ("/m/01yrx,Cat\n/m/0bt9lr,Cat\n", "line 2: /m/0bt9lr or 'Cat' occurs twice"),
    ],
)
def test_wrong_descriptions_are_refused(root: Path, text: str, message: str) -> None:
    (root / "class-descriptions-boxable.csv").write_text(text)
    with pytest.raises(UserError, match=rf"class-descriptions-boxable\.csv.* {message}"):
        openimages_splits(root)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("train-annotations-bbox.csv", r"no file .*train-annotations-bbox\.csv; the layout"),
        ("class-descriptions-boxable.csv", r"no file .*boxable\.csv; the layout"),
        ("train", r"no picture folder .*train; the layout"),
    ],
)
def test_missing_file_or_folder_tells_the_layout(root: Path, name: str, message: str) -> None:
    (root / name).rename(root / "elsewhere")
    with pytest.raises(UserError, match=message):
        openimages_splits(root)


def test_folder_without_pictures_is_refused(root: Path) -> None:
    (root / "train").rename(root / "elsewhere")
    (root / "train").mkdir()
    with pytest.raises(UserError, match=r"train holds no picture \(\.jpg\)"):
        openimages_splits(root)


def test_file_that_is_no_text_is_refused(root: Path) -> None:
    (root / "train-annotations-bbox.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"train-annotations-bbox\.csv is not CSV in UTF-8"):
        openimages_splits(root)


def test_no_object_at_all_leaves_no_class(root: Path) -> None:
    write(root, "train")
    write(root, "validation")
    with pytest.raises(UserError, match="classes=occurring: no split has an object"):
        openimages_splits(root, classes="occurring")

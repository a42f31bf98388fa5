"""The flat arrays of a split, the repairs of boxes, and what is refused."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from compound.errors import UserError
from efficientdet.data.index import AnnotationIndex, ObjectRecord, PictureRecord, build_index

Box = tuple[float, float, float, float]


def record(box: Box, label: int = 0, area: float = math.nan) -> ObjectRecord:
    return ObjectRecord(box=box, label=label, area=area, place=f"annotation {box[0]}")


def picture(image_id: int, *boxes: Box, name: str | None = None) -> PictureRecord:
    objects = [record(box) for box in boxes]
    return PictureRecord(image_id, name or f"{image_id}.jpg", 100, 50, objects)


def build(folder: Path, pictures: Sequence[PictureRecord]) -> AnnotationIndex:
    for item in pictures:
        if ".." not in item.file_name:
            (folder / Path(item.file_name).name).touch()
    return build_index(
        pictures,
        source=Path("list.json"),
        image_dir=folder,
        class_names=["cat", "dog"],
        category_ids=[3, 7],
    )


def test_pictures_are_sorted_by_id_and_boxes_follow(tmp_path: Path) -> None:
    index = build(
        tmp_path, [picture(9, (1, 2, 3, 4), (5, 6, 7, 8)), picture(4), picture(2, (0, 0, 9, 9))]
    )
    assert len(index) == 3
    assert index.image_ids.tolist() == [2, 4, 9]
    assert index.file_names.tolist() == ["2.jpg", "4.jpg", "9.jpg"]
    assert index.offsets.tolist() == [0, 1, 1, 3]
    assert index.rows(1) == slice(1, 1)
    assert index.boxes[index.rows(2)].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert index.sizes.tolist() == [[100, 50]] * 3
    assert index.repairs == {}


def test_array_types(tmp_path: Path) -> None:
    index = build(tmp_path, [picture(1, (1, 2, 3, 4))])
    kinds = {
        name: getattr(index, name).dtype.name
        for name in ("image_ids", "sizes", "offsets", "boxes", "labels", "crowd", "areas")
    }
    assert kinds == {
        "image_ids": "int64",
        "sizes": "int32",
        "offsets": "int64",
        "boxes": "float64",
        "labels": "int64",
        "crowd": "bool",
        "areas": "float64",
    }
    assert index.file_names.dtype.kind == "U"


def test_split_without_any_box_keeps_shapes(tmp_path: Path) -> None:
    index = build(tmp_path, [picture(1), picture(2)])
    assert index.boxes.shape == (0, 4)
    assert index.labels.shape == index.areas.shape == index.crowd.shape == (0,)
    assert index.offsets.tolist() == [0, 0, 0]


def test_every_repair_is_counted_and_the_rest_stays_aligned(tmp_path: Path) -> None:
    pictures = [
        picture(1, (10, 10, 10, 20), (30, 10, 20, 20), (-5, 40, 10, 60)),
        picture(2, (100, 0, 120, 10), (1, 2, 3, 4)),
    ]
    index = build(tmp_path, pictures)
    # The picture is 100 x 50: (-5, 40, 10, 60) clips to (0, 40, 10, 50), area 100.
    assert index.boxes.tolist() == [[0, 40, 10, 50], [1, 2, 3, 4]]
    assert index.areas.tolist() == [100, 4]
    assert index.offsets.tolist() == [0, 1, 2]
    assert index.repairs == {
        "inverted boxes dropped": 1,
        "zero-size boxes dropped": 1,
        "boxes outside the picture dropped": 1,
        "boxes clipped to the picture": 1,
    }


def test_rounding_overshoot_is_clipped_but_no_repair(tmp_path: Path) -> None:
    index = build(tmp_path, [picture(1, (90, 0, 100.01, 10))])
    assert index.boxes[0, 2] == 100
    assert index.repairs == {}


def test_box_that_reaches_outside_may_be_huge(tmp_path: Path) -> None:
    index = build(tmp_path, [picture(1, (-1e9, -1e9, 1e9, 1e9))])
    assert index.boxes.tolist() == [[0, 0, 100, 50]]


def test_area_of_the_file_wins_over_the_box(tmp_path: Path) -> None:
    item = dataclasses.replace(picture(1), objects=[record((0, 0, 4, 4), area=7.5)])
    assert build(tmp_path, [item]).areas.tolist() == [7.5]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_coordinate_that_is_not_finite_is_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(UserError, match=r"list\.json: annotation 1 has the box .*(nan|inf)"):
        build(tmp_path, [picture(1, (1, 2, 3, value))])


def test_image_id_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"list\.json: image id 5 occurs twice \(5\.jpg and other\.jpg\)"
    ):
        build(tmp_path, [picture(5), picture(6), picture(5, name="other.jpg")])


@pytest.mark.parametrize("name", ["/etc/1.jpg", "../1.jpg", "a/../../1.jpg", "C:\\1.jpg", "..\\1"])
def test_file_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"list\.json: file name .* of image 1 must be relative"):
        build(tmp_path, [picture(1, name=name)])


def test_picture_without_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"image 1 \(1\.jpg\) has the size 0 x 50"):
        build(tmp_path, [dataclasses.replace(picture(1), width=0)])


def test_split_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"list\.json lists no picture"):
        build(tmp_path, [])


def test_missing_pictures_are_named_and_counted(tmp_path: Path) -> None:
    for i in (1, 4):
        (tmp_path / f"{i}.jpg").touch()
    with pytest.raises(UserError, match=r"lists 2\.jpg.* \(3 of the first 5 pictures are missing"):
        build_index(
            [picture(i) for i in range(1, 6)],
            source=Path("list.json"),
            image_dir=tmp_path,
            class_names=["cat"],
            category_ids=[1],
        )


def test_index_is_small_and_has_no_objects(tmp_path: Path) -> None:
    index = build(tmp_path, [picture(1, *[(i, 0, i + 1, 1) for i in range(90)])])
    for field in dataclasses.fields(index):
        value = getattr(index, field.name)
        assert not isinstance(value, np.ndarray) or value.dtype != object


def test_image_id_that_the_score_cannot_hold_is_refused(tmp_path: Path) -> None:
    # float64 has no 2**53 + 1, so that two pictures could become one in the score.
    assert float(2**53 + 1) == 2**53
    with pytest.raises(UserError, match=r"image id 9007199254740993 is too large"):
        build(tmp_path, [picture(2**53 + 1)])


def test_boxes_that_are_all_outside_are_no_repair(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"all 2 boxes lie outside .* that of annotation 200;"):
        build(tmp_path, [picture(1, (200, 1, 210, 9)), picture(2, (300, 1, 310, 9))])


def test_repairs_of_the_reader_come_first(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").touch()
    index = build_index(
        [picture(1, (1, 1, 1, 5), (1, 2, 3, 4))],
        source=Path("list.json"),
        image_dir=tmp_path,
        class_names=["cat"],
        category_ids=[1],
        repairs={"lines mended": 2},
    )
    assert list(index.repairs.items()) == [("lines mended", 2), ("zero-size boxes dropped", 1)]

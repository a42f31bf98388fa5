"""COCO's JSON: what is read, and one clear message for each thing that is wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from compound.errors import UserError
from efficientdet.data.coco import read_coco
from efficientdet.data.index import AnnotationIndex


def content() -> dict[str, Any]:
    return {
        "images": [
            {"id": 30, "file_name": "b.jpg", "width": 200, "height": 100},
            {"id": 20, "file_name": "a.jpg", "width": 64, "height": 48},
            {"id": 40, "file_name": "c.jpg", "width": 10, "height": 10},
        ],
        "annotations": [
            {"id": 1, "image_id": 30, "category_id": 90, "bbox": [10, 20, 30, 40], "area": 700.5},
            {"id": 2, "image_id": 20, "category_id": 1, "bbox": [1, 2, 3.5, 4], "iscrowd": 0},
            {"id": 3, "image_id": 30, "category_id": 13, "bbox": [0, 0, 200, 100], "iscrowd": 1},
        ],
        "categories": [
            {"id": 90, "name": "toothbrush"},
            {"id": 1, "name": "person"},
            {"id": 13, "name": "stop sign"},
        ],
    }


def read(folder: Path, value: object) -> AnnotationIndex:
    pictures = folder / "train2017"
    pictures.mkdir()
    for name in "abc":
        (pictures / f"{name}.jpg").touch()
    file = folder / "instances.json"
    file.write_text(value if isinstance(value, str) else json.dumps(value))
    return read_coco(file, pictures)


def test_ids_with_holes_become_labels_in_order_of_ids(tmp_path: Path) -> None:
    index = read(tmp_path, content())
    assert index.class_names == ("person", "stop sign", "toothbrush")
    assert index.category_ids.tolist() == [1, 13, 90]
    # Sorted by picture: 20 has the person, 30 has toothbrush and stop sign, 40 is empty.
    assert index.labels.tolist() == [0, 2, 1]
    assert index.category_ids[index.labels].tolist() == [1, 90, 13]


def test_boxes_areas_crowd_and_empty_picture(tmp_path: Path) -> None:
    index = read(tmp_path, content())
    assert index.file_names.tolist() == ["a.jpg", "b.jpg", "c.jpg"]
    assert index.sizes.tolist() == [[64, 48], [200, 100], [10, 10]]
    assert index.boxes.tolist() == [[1, 2, 4.5, 6], [10, 20, 40, 60], [0, 0, 200, 100]]
    # The second has no area in the file: 3.5 * 4.
    assert index.areas.tolist() == [14, 700.5, 20000]
    assert index.crowd.tolist() == [False, False, True]
    assert index.rows(2) == slice(3, 3)
    assert index.repairs == {}


def test_more_than_a_hundred_boxes_in_a_picture(tmp_path: Path) -> None:
    value = content()
    value["annotations"] = [
        {"id": i, "image_id": 30, "category_id": 1, "bbox": [i, 0, 1, 1]} for i in range(150)
    ]
    index = read(tmp_path, value)
    assert index.boxes[index.rows(1), 0].tolist() == list(range(150))


def test_degenerate_boxes_are_dropped_and_counted(tmp_path: Path) -> None:
    value = content()
    value["annotations"][0]["bbox"] = [10, 20, 0, 40]
    value["annotations"][1]["bbox"] = [10, 20, -4, 40]
    index = read(tmp_path, value)
    assert index.boxes.tolist() == [[0, 0, 200, 100]]
    assert index.repairs == {"zero-size boxes dropped": 1, "inverted boxes dropped": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{broken", r"instances\.json is not JSON"),
        ("[1, 2]", r"instances\.json is not COCO: it holds a list"),
        ('{"images": [], "shapes": []}', r"instances\.json .*no list 'annotations' .*images, sh"),
    ],
)
def test_file_that_is_not_coco_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_entry_that_is_no_object_is_named(tmp_path: Path, key: str) -> None:
    value = content()
    value[key][2] = 17
    with pytest.raises(UserError, match=rf"instances\.json: {key}\[2\] is 17; an object"):
        read(tmp_path, value)


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_each_list_is_needed(tmp_path: Path, key: str) -> None:
    value = content()
    del value[key]
    with pytest.raises(UserError, match=rf"instances\.json is not COCO: it has no list '{key}'"):
        read(tmp_path, value)


@pytest.mark.parametrize(
    ("key", "field"),
    [
        ("images", "id"),
        ("images", "file_name"),
        ("images", "width"),
        ("images", "height"),
        ("annotations", "image_id"),
        ("annotations", "category_id"),
        ("annotations", "bbox"),
        ("categories", "id"),
        ("categories", "name"),
    ],
)
def test_each_field_is_needed(tmp_path: Path, key: str, field: str) -> None:
    value = content()
    del value[key][1][field]
    with pytest.raises(UserError, match=rf"json: {key}\[1\]: the field '{field}' is missing"):
        read(tmp_path, value)


@pytest.mark.parametrize(
    ("key", "field", "bad", "message"),
    [
        ("annotations", "category_id", 7, r"annotations\[0\]: category_id 7 is not among the 3"),
        ("annotations", "image_id", 77, r"json: annotation 1 belongs to image 77, which is not"),
        ("annotations", "bbox", [1, 2, 3], r"annotations\[0\]: bbox is \[1, 2, 3\]; four"),
        ("annotations", "bbox", [1, 2, 3, "x"], r"annotations\[0\]: bbox is \[1, 2, 3, 'x'\]"),
        ("annotations", "bbox", [1, 2, 3, float("nan")], r"json: annotation 1 has the box .*nan"),
        ("images", "id", "30", r"images\[0\]: the field 'id' is '30'"),
        ("images", "id", 20, r"instances\.json: image id 20 occurs twice"),
        ("images", "file_name", "../b.jpg", r"instances\.json: file name '\.\./b\.jpg'"),
        ("categories", "id", 1, r"categories\[1\]: category id 1 occurs twice"),
    ],
)
def test_wrong_value_is_named(
    tmp_path: Path, key: str, field: str, bad: object, message: str
) -> None:
    value = content()
    # No annotation of the picture that changes its id, so that the id itself is the mistake.
    if key == "images":
        value["annotations"] = []
    value[key][0][field] = bad
    with pytest.raises(UserError, match=message):
        read(tmp_path, value)


def test_missing_file_and_folder_tell_the_layout(tmp_path: Path) -> None:
    file = tmp_path / "annotations" / "instances_train2017.json"
    with pytest.raises(UserError, match=r"no picture folder .*nowhere; .*\{train,val\}2017/"):
        read_coco(file, tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no annotation file .*train2017\.json; .*\{train,val\}"):
        read_coco(file, tmp_path)


def test_missing_picture_is_named(tmp_path: Path) -> None:
    value = content()
    value["images"][0]["file_name"] = "gone.jpg"
    with pytest.raises(UserError, match=r"lists gone\.jpg, .*\(1 of the first 3 pictures"):
        read(tmp_path, value)


@pytest.mark.real
@pytest.mark.parametrize(("split", "num_pictures"), [("train2017", 120), ("val2017", 100)])
def test_pictures_of_coco_itself(compound_data: Path, split: str, num_pictures: int) -> None:
    root = compound_data / "data" / "coco"
    index = read_coco(root / "annotations" / f"instances_{split}.json", root / split)
    assert len(index) == num_pictures
    assert len(index.class_names) == 80
    assert index.category_ids[[0, -1]].tolist() == [1, 90]
    assert index.crowd.any()
    assert index.repairs == {}
    assert np.all(index.boxes[:, 2:] > index.boxes[:, :2])
    assert len(index.boxes) == index.offsets[-1] == {120: 1089, 100: 892}[num_pictures]


def test_annotation_that_repeats_one_with_its_id_is_dropped(tmp_path: Path) -> None:
    value = content()
    value["annotations"].append(dict(value["annotations"][0]))
    index = read(tmp_path, value)
    assert len(index.boxes) == 3
    assert index.repairs == {"repeated annotations dropped": 1}


def test_other_annotation_with_an_id_in_use_is_kept_and_told(tmp_path: Path) -> None:
    value = content()
    value["annotations"][1]["id"] = 1
    index = read(tmp_path, value)
    assert len(index.boxes) == 3
    assert index.repairs == {"annotations kept although another has their id": 1}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_area_that_is_not_finite_is_refused(tmp_path: Path, bad: float) -> None:
    value = content()
    value["annotations"][0]["area"] = bad
    with pytest.raises(UserError, match=r"annotations\[0\]: area is (nan|inf)"):
        read(tmp_path, value)


def test_annotations_that_differ_in_their_polygons_alone_are_two(tmp_path: Path) -> None:
    value = content()
    value["annotations"][0]["segmentation"] = [[1, 2, 3, 4, 5, 6]]
    value["annotations"].append(value["annotations"][0] | {"segmentation": [[6, 5, 4, 3, 2, 1]]})
    index = read(tmp_path, value)
    assert len(index.boxes) == 4
    assert index.repairs == {"annotations kept although another has their id": 1}


def test_annotations_without_ids_all_count(tmp_path: Path) -> None:
    value = content()
    for entry in value["annotations"]:
        del entry["id"]
    index = read(tmp_path, value)
    assert len(index.boxes) == 3
    assert index.repairs == {}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_what_only_pythons_reader_takes_is_read(tmp_path: Path, encoding: str) -> None:
    value = content()
    value["annotations"][0]["segmentation"] = [[float("nan"), 2, 3, 4, 5, 6]]
    plain = tmp_path / "plain"
    plain.mkdir()
    expected = read(plain, content())
    (tmp_path / "other.json").write_text(json.dumps(value), encoding=encoding)
    index = read_coco(tmp_path / "other.json", plain / "train2017")
    assert index.boxes.tolist() == expected.boxes.tolist()
    assert index.areas.tolist() == expected.areas.tolist()


def test_place_counts_annotations_that_were_dropped(tmp_path: Path) -> None:
    value = content()
    value["annotations"].insert(1, dict(value["annotations"][0]))
    value["annotations"][3]["iscrowd"] = 2
    with pytest.raises(UserError, match=r"annotations\[3\]: iscrowd is 2; 0 or 1 is needed"):
        read(tmp_path, value)


def test_boxes_are_those_of_pycocotools(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    value = content()
    value["images"] = [
        {"id": i, "file_name": f"{'abc'[i % 3]}.jpg", "width": 640, "height": 480}
        for i in rng.permutation(40).tolist()
    ]
    value["annotations"] = [
        {
            "id": i,
            "image_id": int(rng.integers(40)),
            "category_id": int(rng.choice([1, 13, 90])),
            "bbox": rng.uniform(1, 200, 4).round(2).tolist(),
            "area": float(rng.uniform(1, 4000)),
            "iscrowd": int(rng.random() < 0.2),
            "segmentation": [rng.uniform(1, 400, 8).round(2).tolist()],
        }
        for i in rng.permutation(500).tolist()
    ]
    index = read(tmp_path, value)
    coco = COCO(tmp_path / "instances.json")
    assert index.image_ids.tolist() == sorted(coco.getImgIds())
    for i, image_id in enumerate(index.image_ids.tolist()):
        theirs = coco.loadAnns(coco.getAnnIds(imgIds=image_id))
        rows = index.rows(i)
        xywh = index.boxes[rows].copy()
        xywh[:, 2:] -= xywh[:, :2]
        assert xywh == pytest.approx(np.array([a["bbox"] for a in theirs]).reshape(-1, 4))
        assert index.category_ids[index.labels[rows]].tolist() == [a["category_id"] for a in theirs]
        assert index.areas[rows].tolist() == [a["area"] for a in theirs]
        assert index.crowd[rows].tolist() == [bool(a["iscrowd"]) for a in theirs]

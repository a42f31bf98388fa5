"""What is wrong with a detection data set: lists, boxes, orientation, scores."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compound.doctor.diagnosis import Options
from compound.doctor.files import Looks
from efficientdet.data.coco import read_coco
from efficientdet.data.datamodule import DetectionData
from efficientdet.data.dataset import find_problem
from efficientdet.data.index import AnnotationIndex, ObjectRecord, PictureRecord, build_index
from efficientdet.data.splits import coco_splits, voc_splits
from efficientdet.doctor.boxes import as_seen, box_findings
from efficientdet.doctor.detector import diagnose, truth_findings
from efficientdet.doctor.fast_checks import check_quickly, index_findings
from efficientdet.doctor.lists import list_findings, orientation_findings
from efficientdet.evaluation.evaluator import EvaluationOptions
from efficientdet.specs import EFFICIENTDET

Box = tuple[float, float, float, float]
SPEC = EFFICIENTDET["efficientdet_d0"]
OPTIONS = EvaluationOptions(backend="pycocotools")


def build(
    folder: Path, *pictures: Sequence[tuple[Box, int]], size: tuple[int, int] = (200, 100)
) -> AnnotationIndex:
    """Return pictures of boxes with labels, cat or dog, numbered from 1."""
    folder.mkdir(exist_ok=True)
    records = []
    for i, objects in enumerate(pictures, 1):
        (folder / f"{i}.png").touch()
        found = [ObjectRecord(box, label, f"object {box}") for box, label in objects]
        records.append(PictureRecord(i, f"{i}.png", *size, found))
    return build_index(
        records,
        source=Path("list.json"),
        image_dir=folder,
        class_names=["cat", "dog"],
        category_ids=[3, 7],
    )


def test_boxes_at_the_networks_size(tmp_path: Path) -> None:
    index = build(tmp_path, [((20, 10, 120, 60), 0)])
    # 200 x 100 fits 50 x 80 (high, wide) at factor 0.4: 80 x 40
    assert as_seen(index, (50, 80)).tolist() == [[8, 4, 48, 24]]


def test_odd_boxes_are_named(tmp_path: Path) -> None:
    index = build(
        tmp_path / "set",
        [((0, 0, 200, 99), 0), ((10, 10, 110, 20), 1)],  # 0.99 of the picture; 10 to 1
        [((10, 10, 12, 90), 0), ((50, 50, 90, 59), 1)],  # 2 pixels wide, 0.8 at 80; 4.4 to 1
        [((5, 5, 5, 9), 0)],
    )
    found = {f.check: (f.severity, list(f.places)) for f in box_findings("train", index, (80, 80))}
    assert found == {
        "repaired": ("warning", ["3.png: object (5, 5, 5, 9)"]),
        "boxes_vanish": ("warning", ["set/2.png: cat [10, 10, 12, 90]"]),
        "boxes_extreme": ("hint", ["set/1.png: dog [10, 10, 110, 20]"]),
        "boxes_cover": ("hint", ["set/1.png: cat [0, 0, 200, 99]"]),
    }
    crowd = replace(index, crowd=np.ones_like(index.crowd))
    assert [f.check for f in box_findings("train", crowd, (80, 80))] == ["repaired"]


def test_boxes_that_are_given_twice(tmp_path: Path) -> None:
    first, moved = (10, 10, 110, 90), (10, 10, 112, 90)  # IoU 100 / 102
    index = build(
        tmp_path / "set",
        [(first, 0), ((20, 20, 40, 40), 0), (moved, 1), ((60, 60, 80, 80), 0)],
        [(first, 0), (moved, 0)],
        [((0, 0, 50, 50), 0), ((0, 0, 50, 54), 0)],  # IoU 50 / 54
        [((20, 20, 40, 40), 0)],
    )
    found = {f.check: list(f.places) for f in box_findings("train", index, (100, 200))}
    assert found == {
        "boxes_twice": ["set/2.png: cat [10, 10, 112, 90] and cat"],
        "boxes_two_classes": ["set/1.png: dog [10, 10, 112, 90] and cat"],
    }


def test_lists_that_share_files(tmp_path: Path) -> None:
    train = build(tmp_path / "set", [((1, 1, 9, 9), 0)], [], [((1, 1, 9, 9), 1)])
    names = np.array(["3.png", "4.png", "4.png"])
    val = replace(train, file_names=names, crowd=np.ones_like(train.crowd))
    found = {
        f.text: (f.severity, list(f.places)) for f in list_findings({"train": train, "val": val})
    }
    assert found == {
        "1 pictures are listed in train and in val": ("error", ["set/3.png"]),
        "train: 1 of 3 pictures have no objects": ("hint", ["set/2.png"]),
        "val: 1 files are listed under more than one id": ("warning", ["4.png"]),
        "val: 3 of 3 pictures have no objects": ("warning", ["set/3.png", *["set/4.png"] * 2]),
    }  # fmt: skip
    other = replace(val, image_dir=tmp_path)
    assert not any("listed in" in f.text for f in list_findings({"train": train, "val": other}))


def test_turned_pictures(tmp_path: Path) -> None:
    """Stored 200 x 100 and turned by viewers to 100 x 200."""
    stored = build(tmp_path / "set", *[[((1, 1, 9, 9), 0)]] * 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in (1, 2, 3):
        Image.new("RGB", (200, 100)).save(tmp_path / f"set/{i}.png", exif=exif)
    shown = replace(stored, sizes=stored.sizes[:, ::-1])
    for index, orientation, severity in (
        (stored, 6, "hint"),
        (stored, 3, "warning"),  # upside down: no size tells
        (shown, 6, "error"),
    ):
        problems = {i: text for i in range(3) if (text := find_problem(index, i))}
        looks = Looks(
            np.zeros((3, 2), np.uint64),
            np.zeros(3, bool),
            np.zeros((3, 2), int),
            problems,
            dict.fromkeys(range(3), orientation),
        )
        (finding,) = orientation_findings("train", index, looks)
        assert (finding.severity, finding.total) == (severity, 3)
        assert "EXIF" in finding.text


def test_truth_scores_one(shapes: dict[str, AnnotationIndex]) -> None:
    assert truth_findings("val", shapes["val"], OPTIONS) == ([], 1.0)


def test_truth_that_does_not_score_one_is_told(tmp_path: Path) -> None:
    # As float32 the box is 5000.00049 wide at its right: 0.81 of what was meant.
    thin = build(tmp_path, [((5000.0, 10, 5000.0006, 90), 0), ((1, 1, 9, 9), 1)], size=(6000, 100))
    ((finding,), ap) = truth_findings("val", thin, OPTIONS)
    # cat is found at 7 of 10 thresholds, 0.50 to 0.80
    assert ap == pytest.approx((0.7 + 1) / 2)
    assert (finding.severity, list(finding.places)) == ("error", ["cat: 0.7000"])
    many = build(tmp_path, [((i, 1, i + 1, 9), 0) for i in range(15)])
    ((finding,), _) = truth_findings("val", many, replace(OPTIONS, max_detections=11))
    assert finding.severity == "hint"
    assert "more than 11 objects of a class" in finding.advice


def test_a_sound_data_set_passes(shapes: dict[str, AnnotationIndex], tmp_path: Path) -> None:
    data = DetectionData(root="", read=lambda _: shapes, image_size=64, batch_size=4, seed=0)
    diagnosis = diagnose(data, SPEC, Options(samples=3, generations=5), evaluation=OPTIONS)
    assert not [f for f in diagnosis.findings if f.severity == "error"]
    assert diagnosis.facts["truth_ap"] == {"val": 1.0}
    assert diagnosis.facts["pictures"] == {"train": 16, "val": 5}
    paths = diagnosis.write(tmp_path, title="shapes")
    assert [path.name for path in paths] == ["doctor.json", "anchors.yaml", "doctor.html"]
    quick = check_quickly(data, SPEC)
    assert {f.check for f in quick} <= {f.check for f in diagnosis.findings}


@pytest.mark.real
def test_blood_cells_have_two_degenerate_boxes(compound_data: Path) -> None:
    splits = voc_splits(compound_data / "data" / "bccd", test="test")
    found = [f for f in index_findings(splits, (512, 512)) if f.check == "repaired"]
    degenerate = [f for f in found if "zero-size" in f.text or "inverted" in f.text]
    assert sum(f.total for f in degenerate) == 2
    assert all(f.severity == "warning" and len(f.places) == f.total for f in degenerate)
    assert all(".xml, object " in place for f in degenerate for place in f.places)


@pytest.mark.real
def test_coco_is_sound(compound_data: Path) -> None:
    root = compound_data / "data" / "coco"
    data = DetectionData(
        root=str(root), read=coco_splits, image_size=512, batch_size=4, seed=0, num_workers=0
    )
    diagnosis = diagnose(data, SPEC, Options(samples=0, generations=0), evaluation=OPTIONS)
    assert not [f for f in diagnosis.findings if f.severity == "error"]
    assert diagnosis.facts["truth_ap"]["val"] == pytest.approx(1.0)
    assert not any(f.check.startswith("duplicates") for f in diagnosis.findings)
    index = read_coco(root / "annotations/instances_val2017.json", root / "val2017")
    assert diagnosis.facts["pictures"]["val"] == len(index)

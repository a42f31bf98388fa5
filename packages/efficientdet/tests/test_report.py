"""What a report says of three pictures: one found, one half found, one missed."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compound.report.page import Gallery, Heatmap, Numbers, Section, Table, Text
from efficientdet.data.index import ObjectRecord, PictureRecord, build_index
from efficientdet.evaluation.evaluator import CocoEvaluator
from efficientdet.report import detector_sections

NAMES = ("cat", "dog")
# x0, y0, x1, y1; the second cat's detection overlaps it by 0.6: right at 0.50, wrong at 0.75.
BOX = (10.0, 10.0, 60.0, 60.0)


@pytest.fixture
def sections(tmp_path: Path) -> dict[str, Section]:
    labels = {1: [0], 2: [0, 1], 3: [1]}
    pictures = []
    for image_id, own in labels.items():
        Image.new("RGB", (100, 80)).save(tmp_path / f"{image_id}.png")
        objects = [ObjectRecord(BOX, label, "here") for label in own]
        pictures.append(PictureRecord(image_id, f"{image_id}.png", 100, 80, objects))
    index = build_index(
        pictures, source=tmp_path, image_dir=tmp_path, class_names=NAMES, category_ids=(1, 2)
    )
    rows = np.array([
        [1, 10, 10, 50, 50, 0.9, 1],  # a cat where one is
        [2, 10, 10, 50, 30, 0.8, 1],  # a cat of 30 rows where one of 50 is: IoU 30 / 50
        [3, 70, 70, 10, 10, 0.7, 1],  # a cat where nothing is; the dog is missed
    ])  # fmt: skip
    (tmp_path / "2.png").unlink()
    results = CocoEvaluator(index).scored(rows, index.image_ids)
    found = detector_sections(results, index, split="test")
    return {section.title: section for section in found}


def test_what_stands_where(sections: dict[str, Section]) -> None:
    assert list(sections) == ["At a glance: test", "Classes", "Errors", "Confidence", "Pictures"]
    scores, *texts = sections["At a glance: test"].parts
    assert isinstance(scores, Numbers)
    # Both cats are found before anything wrong: AP50 1 of cats, 0 of dogs. At 0.75 one of two
    # is: the precision is 1 up to a recall of 0.5, which are 51 of 101 points.
    assert dict(scores.values)["AP50"] == "0.500"
    assert dict(scores.values)["AP75"] == f"{51 / 101 / 2:.3f}"
    told = [part.text for part in texts if isinstance(part, Text)]
    assert told[0] == "Of dog nothing is found as it should be."
    # At 0.8 two detections, both right, find two of four objects.
    assert "0.80 or more" in told[1]
    assert "100% of them are right and 50% of the objects are found" in told[1]


def test_columns_of_the_classes(sections: dict[str, Section]) -> None:
    table = sections["Classes"].parts[0]
    assert isinstance(table, Table)
    cat = dict(zip(table.columns, table.rows[0], strict=True))
    assert (cat["class"], cat["objects"], cat["AP50"]) == ("cat", "2", "1.000")
    assert cat["AP75"] == f"{51 / 101:.3f}"
    # Boxes of 50 x 50 are medium; there are no others.
    assert (cat["APs"], cat["APm"], cat["APl"]) == ("", cat["AP"], "")


def test_errors_and_confusions(sections: dict[str, Section]) -> None:
    (table,) = (p for p in sections["Errors"].parts if isinstance(p, Table))
    counts = {row[0]: row[2] for row in table.rows}
    assert (counts["background"], counts["missed"], counts["all misses"]) == ("1", "2", "2")
    (matrix,) = (p for p in sections["Errors"].parts if isinstance(p, Heatmap))
    # At a score of 0.8: two cats for cats, two dogs not found, nothing where nothing is.
    assert matrix.columns == ["cat", "dog", "background"]
    assert matrix.values.tolist() == [[2, 0, 0], [0, 0, 2], [0, 0, 0]]


def test_pictures_from_the_worst_and_those_that_have_moved(sections: dict[str, Section]) -> None:
    worst, *rest = sections["Pictures"].parts
    assert isinstance(worst, Gallery)
    assert worst.title == "Worst"
    assert worst.shots[0].caption == "3.png: 0 right, 0 wrong, 1 missed"
    assert {(box.kind, box.label, box.score) for box in worst.shots[0].boxes} == {
        ("missed", 1, None), ("wrong", 0, 0.7),
    }  # fmt: skip
    assert worst.least == 0.8
    (best,) = (p for p in rest if isinstance(p, Gallery))
    assert [s.caption for s in best.shots] == ["1.png: 1 right, 0 wrong, 0 missed"]
    (moved,) = (p.text for p in rest if isinstance(p, Text))
    assert moved.startswith("1 pictures are left out: ")
    assert "2.png" in moved

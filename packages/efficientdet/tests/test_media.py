"""What a detector shows on trackers: which pictures, their boxes, and the charts of classes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from efficientdet.data.index import AnnotationIndex
from efficientdet.evaluation.curves import PrecisionRecall
from efficientdet.evaluation.evaluator import CocoEvaluator, EvaluationOptions, Results
from efficientdet.media import MAX_POINTS, _curves, chosen_rows, class_charts, picture_of
from efficientdet.postprocess import Detections


def guesses(index: AnnotationIndex) -> Results:
    """Return every object found, shifted by up to a third of its side, some under a wrong class."""
    rng = np.random.default_rng(0)
    sides = index.boxes[:, 2:] - index.boxes[:, :2]
    rows = np.empty((len(index.boxes), 7))
    rows[:, 0] = np.repeat(index.image_ids, np.diff(index.offsets))
    rows[:, 1:3] = index.boxes[:, :2] + rng.uniform(0, 1 / 3, sides.shape) * sides
    rows[:, 3:5] = sides
    rows[:, 5] = rng.uniform(0.1, 1, len(rows))
    wrong = rng.random(len(rows)) < 0.3
    labels = (index.labels + wrong) % len(index.class_names)
    rows[:, 6] = index.category_ids[labels]
    return scored(index, rows)


def scored(index: AnnotationIndex, rows: np.ndarray) -> Results:
    options = EvaluationOptions(backend="pycocotools")
    return CocoEvaluator(index, options).scored(rows, index.image_ids)


def test_charts_say_what_the_score_does(shapes: dict[str, AnnotationIndex]) -> None:
    index = shapes["train"]
    results = guesses(index)
    scores = results.scores
    charts = class_charts(index, results)

    table = charts["val/per_class"]
    assert table.columns[:4] == ["name", "objects", "ap", "ap50"]
    found = {row[0]: row[2] for row in table.data}
    known = {name: ap for name, ap in scores.class_ap.items() if ap == ap}
    assert {name: ap for name, ap in found.items() if ap is not None} == pytest.approx(known)
    assert sum(row[1] for row in table.data) == len(index.boxes)
    assert 0.05 < scores.metrics["AP50"] < 0.95

    chart = charts["val/precision_recall"]
    assert chart.spec.spec_name == "wandb/area-under-curve/v0"
    lines: dict[str, list[float]] = {}
    for name, _, precision in chart.table.data:
        lines.setdefault(name, []).append(precision)
    assert set(lines) == {"all classes", *known}
    # COCO's AP is the mean of the precision at 101 recalls.
    assert all(len(line) == 101 for line in lines.values())
    assert np.mean(lines["all classes"]) == pytest.approx(scores.metrics["AP50"], abs=1e-4)
    for name, _, _, ap50, *_ in table.data:
        if ap50 is not None:
            assert np.mean(lines[name]) == pytest.approx(ap50, abs=1e-4)


def test_curves_of_many_classes_have_fewer_points() -> None:
    recalls = np.linspace(0, 1, 101)
    line = 1 - recalls
    lines = np.repeat(line[None], 300, axis=0)
    lines[7] = np.nan  # no objects
    found = PrecisionRecall(recalls, line, line, line, lines)
    rows = _curves(found, [f"class {i}" for i in range(300)]).table.data
    # 300 curves of 101 points are 30,300, so that every fourth is shown: 26 of each.
    assert len(rows) == 300 * 26 <= MAX_POINTS
    assert "class 7" not in {row[0] for row in rows}
    assert rows[1] == ["all classes", pytest.approx(0.04), pytest.approx(0.96)]


def test_nothing_found_is_charted_too(shapes: dict[str, AnnotationIndex]) -> None:
    index = shapes["val"]
    charts = class_charts(index, scored(index, np.empty((0, 7))))
    assert {row[2] for row in charts["val/per_class"].data} <= {0.0, None}
    assert {row[2] for row in charts["val/precision_recall"].table.data} == {0.0}


def test_the_same_pictures_are_shown_each_time(shapes: dict[str, AnnotationIndex]) -> None:
    index = shapes["train"]
    offsets = np.array([0, 0, 2, 2, 3, 4, 5, 5, 6])  # pictures 1, 3, 4, 5, 7 have objects
    index = replace(index, offsets=offsets)
    seen = np.arange(8)
    # 5 with objects at equal distances: places 0 and 5 // 2 of them.
    assert chosen_rows(index, seen, 2).tolist() == [1, 4]
    assert chosen_rows(index, seen, 5).tolist() == [1, 3, 4, 5, 7]
    assert chosen_rows(index, seen, 6).tolist() == [1, 3, 4, 5, 7, 0]
    assert sorted(chosen_rows(index, seen, 99).tolist()) == list(range(8))
    assert chosen_rows(index, np.array([0, 2, 4]), 1).tolist() == [4]
    assert chosen_rows(index, seen, 0).tolist() == []


def test_boxes_are_in_pixels_with_classes_and_scores() -> None:
    box, labels = torch.tensor([[1.0, 2.0, 30.0, 40.0]]), torch.tensor([1])
    truth = Detections(box, torch.ones(1), labels)
    found = Detections(box + 1, torch.tensor([0.25]), labels)
    picture = np.zeros((48, 64, 3), np.uint8)
    image = picture_of(picture, "a.jpg", truth, found, ["cat", "dog"])
    assert image.format == "jpg"
    assert image._caption == "a.jpg"
    layers = image._boxes
    assert layers is not None
    assert set(layers) == {"ground_truth", "predictions"}
    position = {"minX": 2.0, "minY": 3.0, "maxX": 31.0, "maxY": 41.0}
    assert layers["predictions"]._val == [
        {
            "position": position, "domain": "pixel", "class_id": 1,
            "box_caption": "dog 0.25", "scores": {"score": 0.25},
        }
    ]  # fmt: skip
    assert "scores" not in layers["ground_truth"]._val[0]
    assert layers["ground_truth"]._class_labels == {0: "cat", 1: "dog"}

"""COCO mAP: ground truth scores 1, and real result files score what COCO's own code printed."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from efficientdet.data.index import AnnotationIndex
from efficientdet.evaluation import METRICS, CocoEvaluator, score, write_results
from efficientdet.postprocess import Detections


def truth_as_detections(index: AnnotationIndex) -> CocoEvaluator:
    evaluator = CocoEvaluator(index)
    for i, image_id in enumerate(index.image_ids.tolist()):
        rows = index.rows(i)
        boxes = torch.from_numpy(index.boxes[rows])
        labels = torch.from_numpy(index.labels[rows])
        evaluator.add(image_id, Detections(boxes, torch.ones(len(boxes)), labels))
    return evaluator


def test_ground_truth_scores_one(shapes: dict[str, AnnotationIndex]) -> None:
    # COCO's ids have holes, and small pictures have no large objects.
    index = shapes["train"]
    index = replace(index, category_ids=index.category_ids * 7 + 3)
    scores = score(index, truth_as_detections(index).results(), index.image_ids)
    for name in ("mAP", "AP50", "AP75", "AR100"):
        assert scores.metrics[name] == pytest.approx(1.0)
    assert set(scores.class_ap) == set(index.class_names)
    assert all(ap == pytest.approx(1.0) for ap in scores.class_ap.values() if ap == ap)


def test_boxes_three_tenths_too_wide_pass_six_of_ten_thresholds(
    shapes: dict[str, AnnotationIndex],
) -> None:
    index = shapes["train"]
    evaluator = truth_as_detections(index)
    results = evaluator.results()
    results[:, 3] *= 1.3  # IoU 1 / 1.3 = 0.769: right at .50 .. .75, six of ten thresholds
    scores = score(index, results, index.image_ids)
    assert scores.metrics["AP50"] == pytest.approx(1.0)
    assert scores.metrics["mAP"] == pytest.approx(0.6, abs=0.02)


def test_nothing_found_scores_zero(shapes: dict[str, AnnotationIndex]) -> None:
    index = shapes["val"]
    scores = score(index, CocoEvaluator(index).results(), index.image_ids)
    nan = {"APl", "ARl"}  # pictures of 64 pixels hold no large objects
    assert {name for name, value in scores.metrics.items() if np.isnan(value)} == nan
    assert {scores.metrics[name] for name in METRICS if name not in nan} == {0.0}


def test_pictures_that_were_not_looked_at_do_not_count(shapes: dict[str, AnnotationIndex]) -> None:
    index = shapes["train"]
    evaluator = CocoEvaluator(index)
    for i in range(4):
        rows = index.rows(i)
        boxes, labels = torch.from_numpy(index.boxes[rows]), torch.from_numpy(index.labels[rows])
        evaluator.add(int(index.image_ids[i]), Detections(boxes, torch.ones(len(boxes)), labels))
    assert evaluator.image_ids().tolist() == index.image_ids[:4].tolist()
    results = evaluator.results()
    assert score(index, results, evaluator.image_ids()).metrics["mAP"] == pytest.approx(1.0)
    assert score(index, results, index.image_ids).metrics["mAP"] < 0.9


def test_results_file_is_cocos(shapes: dict[str, AnnotationIndex], tmp_path: Path) -> None:
    path = tmp_path / "predictions.json"
    write_results(path, np.array([[5, 1.234, 2, 3, 4, 0.123456, 9]]))
    assert json.loads(path.read_text()) == [
        {"image_id": 5, "category_id": 9, "bbox": [1.23, 2.0, 3.0, 4.0], "score": 0.12346}
    ]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.real
def test_cocos_own_example(compound_data: Path) -> None:
    folder = compound_data / "expected/coco_eval/cocoapi_val2014_100"
    content = json.loads((folder / "instances_val2014_100.json").read_text())
    ids = np.array(sorted(c["id"] for c in content["categories"]))
    images = np.array(sorted(i["id"] for i in content["images"]))
    entries = sorted(content["annotations"], key=lambda a: a["image_id"])
    boxes = np.array([a["bbox"] for a in entries])
    boxes[:, 2:] += boxes[:, :2]
    counts = [sum(a["image_id"] == i for a in entries) for i in images]
    index = AnnotationIndex(
        image_dir=folder,
        file_names=np.array([""] * len(images)),
        image_ids=images,
        sizes=np.zeros((len(images), 2), np.int32),
        offsets=np.cumsum([0, *counts]),
        boxes=boxes,
        labels=np.searchsorted(ids, [a["category_id"] for a in entries]),
        crowd=np.array([a["iscrowd"] for a in entries], bool),
        areas=np.array([a["area"] for a in entries]),
        class_names=tuple(str(i) for i in ids),
        category_ids=ids,
        repairs={},
    )
    found = json.loads((folder / "instances_val2014_fakebbox100_results.json").read_text())
    rows = [[f["image_id"], *f["bbox"], f["score"], f["category_id"]] for f in found]
    printed = (folder / "EXPECTED.txt").read_text()
    expected = [float(v) for v in re.findall(r"A[PR]\w* (\.\d+)", printed)[:12]]
    ours = score(index, np.array(rows), images).metrics
    assert [round(v, 3) for v in ours.values()] == expected

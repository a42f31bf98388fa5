"""Real result files score what COCO's own code and another project's printed."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from efficientdet.data.index import AnnotationIndex
from efficientdet.evaluation.evaluator import CocoEvaluator, CocoScores, EvaluationOptions


def score(index: AnnotationIndex, results: np.ndarray, backend: str) -> CocoScores:
    options = EvaluationOptions(backend=backend)  # type: ignore[arg-type]
    return CocoEvaluator(index, options).score(results, index.image_ids)


def coco_files(folder: Path, truth: str, found: str) -> tuple[AnnotationIndex, np.ndarray]:
    """Read a ground truth of COCO and the results that belong to it."""
    content = json.loads((folder / truth).read_text())
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
    results = json.loads((folder / found).read_text())
    results = results["annotations"] if isinstance(results, dict) else results
    rows = [[f["image_id"], *f["bbox"], f["score"], f["category_id"]] for f in results]
    return index, np.array(rows)


@pytest.mark.real
@pytest.mark.parametrize(
    "backend",
    ["pycocotools", pytest.param("faster_coco_eval", marks=pytest.mark.extra("fast-eval"))],
)
@pytest.mark.parametrize(
    ("name", "truth", "found", "digits"),
    [
        (
            "cocoapi_val2014_100",
            "instances_val2014_100.json",
            "instances_val2014_fakebbox100_results.json",
            3,
        ),
        ("review_metrics_100", "sampled_gts_bbox_area.json", "sampled_bbox_results.json", 6),
    ],
)
def test_published_numbers(
    compound_data: Path, backend: str, name: str, truth: str, found: str, digits: int
) -> None:
    folder = compound_data / "expected/coco_eval" / name
    index, results = coco_files(folder, truth, found)
    printed = (folder / "EXPECTED.txt").read_text()
    expected = [float(v) for v in re.findall(r"A[PR]\w* (\.\d+)", printed)[:12]]
    scores = score(index, results, backend)
    assert [round(v, digits) for v in scores.metrics.values()] == expected
    reference = score(index, results, "pycocotools")
    assert scores.metrics == pytest.approx(reference.metrics, abs=1e-9)
    assert scores.class_ap == pytest.approx(reference.class_ap, abs=1e-9, nan_ok=True)

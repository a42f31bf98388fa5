"""Suppression equals the official TensorFlow code from the same network outputs.

Not compared: ``tflite_pre_nms`` (anchors as centre and size over the picture's size, which nothing
here uses) and ``transform_detections`` (``numpy_top5000`` again, as xywh). The ``numpy`` variants
count a box's last pixel as part of it, which our detections do not: they are compared with
`soft_nms` alone, on boxes made so.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from efficientdet.anchors import make_anchors
from efficientdet.postprocess import Detections, Suppression, postprocess
from efficientdet.soft_nms import soft_nms

pytestmark = pytest.mark.real
FOLDER = Path(os.environ.get("COMPOUND_DATA", ""), "expected/tf/efficientdet-d0")
CASES = ["b1_128x128", "b1_192x320_odd", "b2_256x256"]
XYXY = [1, 0, 3, 2]  # the files have y before x
LEVELS = range(3, 8)
ALL = 10**9

GLOBAL_SOFT = Suppression(one_label=True, across_classes=True, soft=True)
PER_CLASS_SOFT = Suppression(one_label=True, across_classes=False, soft=True)
# How each variant is asked for. The official code counts no candidates where an anchor has one
# label, and knows no threshold of hard NMS unless it is told one.
VARIANTS = {
    "per_class_gaussian_top5000": {"method": "soft"},
    "global_hard": {"method": "fast", "max_candidates": ALL, "score_threshold": 0.0},
    "global_hard_iou0.3_score0.3": {
        "method": "fast",
        "max_candidates": ALL,
        "score_threshold": 0.3,
        "nms_iou": 0.3,
    },
    "combined": {"method": "per_class", "max_candidates": ALL, "score_threshold": 0.0},
    "global_gaussian_default": {"method": GLOBAL_SOFT, "max_candidates": ALL},
    "global_gaussian_scaled": {"method": GLOBAL_SOFT, "max_candidates": ALL},
    "global_gaussian_top5000": {
        "method": Suppression(one_label=False, across_classes=True, soft=True)
    },
    "per_class_hard": {
        "method": Suppression(one_label=True, across_classes=False, soft=False),
        "max_candidates": ALL,
        "score_threshold": 0.0,
    },
    "per_class_gaussian_default": {"method": PER_CLASS_SOFT, "max_candidates": ALL},
    "per_class_gaussian_scaled": {"method": PER_CLASS_SOFT, "max_candidates": ALL},
}


def read(case: str, name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / case / f"{name}.npz") as content:
        return dict(content)


def size_of(case: str) -> tuple[int, int]:
    _, height, width, _ = np.load(FOLDER / case / "input.npy", mmap_mode="r").shape
    return height, width


def detect(case: str, **settings) -> list[Detections]:
    outputs = read(case, "outputs_ema")
    levels = [
        [torch.from_numpy(outputs[f"{name}_{i}"].transpose(0, 3, 1, 2).copy()) for i in LEVELS]
        for name in ("cls", "box")
    ]
    return postprocess(*levels, make_anchors(size_of(case), LEVELS, scale=4.0), **settings)


def assert_same(found: Detections, boxes: Tensor, scores: Tensor, labels: Tensor) -> None:
    assert torch.equal(found.labels, labels.long())
    torch.testing.assert_close(found.scores, scores, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.boxes_xyxy, boxes, rtol=0, atol=1e-3)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, case: str) -> None:
    expected = {k: torch.from_numpy(v) for k, v in read(case, "nms").items()}
    height, width = size_of(case)
    border = torch.tensor([width, height, width, height])
    for image, found in enumerate(detect(case, **VARIANTS[variant])):
        count = int(expected[f"{variant}/valid_len"][image])
        assert len(found.scores) == count
        if variant.startswith(("global", "combined")):  # these are cut at the picture's border
            inside = found.boxes_xyxy.clamp(min=0).minimum(border)
            found = found._replace(boxes_xyxy=inside)
        if variant.endswith("scaled"):
            scale = expected["image_scales"][image]
            found = found._replace(boxes_xyxy=found.boxes_xyxy * scale)
        boxes, scores, labels = (
            expected[f"{variant}/{name}"][image][:count] for name in ("boxes", "scores", "classes")
        )
        assert_same(found, boxes[:, XYXY], scores, labels - 1)


@pytest.mark.parametrize("case", CASES)
def test_detections_of_the_coco_evaluation(case: str) -> None:
    """Rows ``image id, x0, y0, x1, y1, score, class`` in the original picture's pixels."""
    expected = {k: torch.from_numpy(v) for k, v in read(case, "nms").items()}
    for image, found in enumerate(detect(case, method="soft")):
        rows = expected["generate_detections/tf_top5000"][image]
        found = found._replace(boxes_xyxy=found.boxes_xyxy * expected["image_scales"][image])
        assert_same(found, rows[:, 1:5], rows[:, 5], rows[:, 6] - 1)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("variant", "inputs"), [("default", ""), ("top5000", "_top5000")])
def test_soft_nms_of_numpy(variant: str, inputs: str, case: str) -> None:
    """Theirs has sides of ``x1 - x0 + 1``: ours with the far corner one pixel further."""
    expected = {k: torch.from_numpy(v) for k, v in read(case, "nms").items()}
    for image, scale in enumerate(expected["image_scales"]):
        boxes = expected[f"pre_nms{inputs}/boxes"][image][:, XYXY]
        scores = expected[f"pre_nms{inputs}/scores"][image]
        labels = expected[f"pre_nms{inputs}/classes"][image].long()
        one_further = boxes + torch.tensor([0, 0, 1, 1])
        kept, decayed = soft_nms(one_further, scores, labels)
        rows = expected[f"generate_detections/numpy_{variant}"][image]
        found = Detections(boxes[kept] * scale, decayed, labels[kept])
        assert_same(found, rows[:, 1:5], rows[:, 5], rows[:, 6] - 1)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("method", "inputs"), [("per_class", "_top5000"), ("fast", "")])
def test_candidates(method: str, inputs: str, case: str) -> None:
    """Before NMS the pairs of anchor and class are the same, in any order."""
    expected = read(case, "nms")
    results = detect(
        case,
        method=method,
        score_threshold=0.0,
        nms_iou=1.0,
        max_candidates=5000 if inputs else ALL,
        max_detections=ALL,
    )
    for image, found in enumerate(results):
        theirs = np.sort(expected[f"pre_nms{inputs}/scores"][image].reshape(-1))[::-1]
        np.testing.assert_allclose(found.scores, theirs, rtol=0, atol=1e-5)
        picked = np.bincount(found.labels, minlength=90)
        classes = expected[f"pre_nms{inputs}/classes"][image].reshape(-1).astype(int)
        assert picked.tolist() == np.bincount(classes, minlength=90).tolist()

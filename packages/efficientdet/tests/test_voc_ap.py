"""VOC's average precision: by hand, and by effdet's evaluator."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from efficientdet.data.index import AnnotationIndex
from efficientdet.evaluation.evaluator import CocoEvaluator, EvaluationOptions
from efficientdet.evaluation.voc_ap import voc_ap


def index_of(objects: list[tuple[int, int, int, bool]]) -> AnnotationIndex:
    """Two pictures, ids 3 and 8, with squares of 10 pixels at ``(picture, x, label, crowd)``."""
    pictures, x, labels, crowd = (np.array(column) for column in zip(*objects, strict=True))
    return AnnotationIndex(
        image_dir=Path(),
        file_names=np.array(["a", "b"]),
        image_ids=np.array([3, 8]),
        sizes=np.full((2, 2), 100, np.int32),
        offsets=np.searchsorted(pictures, [0, 1, 2]),
        boxes=np.stack([x, np.zeros_like(x), x + 10, np.full_like(x, 10)], 1).astype(float),
        labels=labels,
        crowd=crowd,
        areas=np.full(len(x), 100.0),
        class_names=("cat", "dog"),
        category_ids=np.array([7, 2]),
        repairs={},
    )


def rows_of(found: list[tuple[int, float, float, int]]) -> np.ndarray:
    """Squares of 10 pixels at ``(image id, x, score, category id)``."""
    rows = [[image, x, 0, 10, 10, score, category] for image, x, score, category in found]
    return np.array(rows, float).reshape(-1, 7)


def test_area_under_the_whole_curve_by_hand() -> None:
    index = index_of([(0, 0, 0, False), (0, 50, 0, False), (1, 0, 0, False), (1, 50, 0, False)])
    rows = rows_of(
        [
            (8, 80, 0.8, 7),  # nothing there
            (3, 1, 0.9, 7),  # right: IoU 9 / 11
            (3, 50, 0.7, 7),  # right
            (3, 0, 0.6, 7),  # its object is taken
            (8, 0, 0.5, 7),  # right; the object at 50 stays unfound
        ]
    )
    # In order of scores: right, wrong, right, wrong, right. Precision at the right ones is 1,
    # 2/3, 3/5, each the largest from there on; each is a quarter of the recall.
    assert voc_ap(index, rows, index.image_ids)[0] == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)
    # The last object's precision 4/5 lifts the curve before it.
    rows = np.concatenate([rows[[0, 1, 2, 4]], rows_of([(8, 50, 0.4, 7)])])
    ap = voc_ap(index, rows, index.image_ids)
    assert ap[0] == pytest.approx((1 + 4 / 5 + 4 / 5 + 4 / 5) / 4)
    assert np.isnan(ap[1])  # no dogs
    only = voc_ap(index, rows, index.image_ids[1:])  # wrong, right, right
    assert only[0] == pytest.approx((2 / 3 + 2 / 3) / 2)


def test_a_detection_belongs_to_the_object_it_overlaps_most() -> None:
    index = index_of([(0, 0, 0, False), (0, 4, 0, False)])
    # At 1 and at 2 - epsilon: both overlap the object at 0 most (9/11 and 8/12), though the
    # second one overlaps that at 4 by more than half as well (8/12 - epsilon).
    rows = rows_of([(3, 1, 0.9, 7), (3, 1.99, 0.8, 7)])
    assert voc_ap(index, rows, index.image_ids)[0] == pytest.approx(1 / 2)
    coco = CocoEvaluator(index, EvaluationOptions("pycocotools")).score(rows, index.image_ids)
    assert coco.metrics["AP50"] == pytest.approx(1.0)


def test_classes_do_not_mix_and_crowds_do_not_count() -> None:
    index = index_of([(0, 0, 0, False), (0, 30, 0, True), (1, 0, 1, False), (1, 50, 1, False)])
    # A cat that is difficult, twice, costs nothing; a dog where a cat is, is wrong.
    rows = rows_of([(3, 30, 0.9, 7), (3, 30, 0.8, 7), (3, 0, 0.7, 7), (3, 0, 0.6, 2)])
    rows = np.concatenate([rows, rows_of([(8, 50, 0.5, 2)])])
    assert voc_ap(index, rows, index.image_ids) == pytest.approx([1.0, 0.5 / 2])
    options = EvaluationOptions("pycocotools", voc=True)
    scores = CocoEvaluator(index, options).score(rows, index.image_ids)
    assert scores.metrics["VOC_AP50"] == pytest.approx((1 + 0.25) / 2)


def test_half_is_enough() -> None:
    index = index_of([(0, 0, 0, False)])
    rows = rows_of([(3, 0, 0.9, 7)])
    rows[0, 3] = 5  # IoU 50 / 100
    assert voc_ap(index, rows, index.image_ids)[0] == 1.0
    rows[0, 3] = 4.99
    assert voc_ap(index, rows, index.image_ids)[0] == 0.0
    assert voc_ap(index, rows[:0], index.image_ids)[0] == 0.0


def drawn(seed: int) -> tuple[AnnotationIndex, np.ndarray]:
    """40 pictures of crowded boxes in 5 classes, and detections of different scores near them."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 12, 40)
    corners = rng.uniform(0, 60, (counts.sum(), 2))
    boxes = np.hstack((corners, corners + rng.uniform(10, 40, corners.shape)))
    index = replace(
        index_of([(0, 0, 0, False)]),
        file_names=np.arange(40).astype(str),
        image_ids=np.arange(40) * 3 + 1,
        sizes=np.full((40, 2), 100, np.int32),
        offsets=np.concatenate([[0], counts.cumsum()]),
        boxes=boxes,
        labels=rng.integers(5, size=len(boxes)),
        crowd=rng.random(len(boxes)) < 0.2,
        areas=(boxes[:, 2:] - boxes[:, :2]).prod(1),
        class_names=tuple("abcde"),
        category_ids=np.array([4, 1, 9, 2, 8]),
    )
    near = np.repeat(np.arange(len(boxes)), 3)
    moved = boxes[near] + rng.normal(0, 3, (len(near), 4))
    owners = np.repeat(index.image_ids, counts)[near]
    labels = np.where(rng.random(len(near)) < 0.8, index.labels[near], rng.integers(5))
    scores = rng.permutation(len(near)) / len(near)
    sides = (moved[:, 2:] - moved[:, :2]).clip(min=1)
    columns = (owners, *moved[:, :2].T, *sides.T, scores, index.category_ids[labels])
    return index, np.stack(columns, 1)


@pytest.mark.parity
@pytest.mark.parametrize("seed", range(3))
def test_effdet_agrees(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    for name, kind in (("float_", np.float64), ("NAN", np.nan)):
        monkeypatch.setattr(np, name, kind, raising=False)  # numpy 2 has dropped them
    from effdet.evaluation.detection_evaluator import PascalDetectionEvaluator

    index, results = drawn(seed)
    theirs = PascalDetectionEvaluator([{"id": i + 1, "name": n} for i, n in enumerate("abcde")])
    labels = {int(id_): label for label, id_ in enumerate(index.category_ids)}
    for i, image_id in enumerate(index.image_ids.tolist()):
        rows, found = index.rows(i), results[results[:, 0] == image_id]
        theirs.add_single_ground_truth_image_info(
            image_id,
            {
                "bbox": index.boxes[rows][:, [1, 0, 3, 2]],
                "cls": index.labels[rows] + 1,
                "difficult": index.crowd[rows],
            },
        )
        corners = np.hstack((found[:, 1:3], found[:, 1:3] + found[:, 3:5]))
        theirs.add_single_detected_image_info(
            image_id,
            {
                "bbox": corners[:, [1, 0, 3, 2]],
                "score": found[:, 5],
                "cls": np.array([labels[int(c)] + 1 for c in found[:, 6]]),
            },
        )
    expected = theirs.evaluate()
    ours = voc_ap(index, results, index.image_ids)
    for name, ap in zip("abcde", ours, strict=True):
        assert ap == pytest.approx(
            expected[f"PascalBoxes_PerformanceByCategory/AP@0.5IOU/{name}"], abs=1e-12
        )
    assert ours.mean() == pytest.approx(expected["PascalBoxes_Precision/mAP@0.5IOU"], abs=1e-12)
    assert 0.2 < ours.mean() < 0.9

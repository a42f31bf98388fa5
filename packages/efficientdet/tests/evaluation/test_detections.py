"""The whole analysis, its pictures, and data that has little to analyse."""

from dataclasses import replace

import numpy as np
import pytest

from efficientdet.data.index import AnnotationIndex
from efficientdet.evaluation.coco_ap import CocoTruth
from efficientdet.evaluation.detections import DetectionAnalysis, analyse
from efficientdet.evaluation.evaluator import CocoEvaluator, EvaluationOptions

OPTIONS = EvaluationOptions("pycocotools")


def analysed(
    index: AnnotationIndex,
    rows: np.ndarray,
    image_ids: np.ndarray | None = None,
    options: EvaluationOptions = OPTIONS,
) -> DetectionAnalysis:
    ids = index.image_ids if image_ids is None else image_ids
    return analyse(index, CocoEvaluator(index, options).scored(rows, ids))


def test_parts_agree(drawn, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, curves = [], CocoTruth.curves
    monkeypatch.setattr(
        CocoTruth, "curves", lambda *args, **kw: calls.append(1) or curves(*args, **kw)
    )
    index, results = drawn(0)
    analysis = analysed(index, results)
    assert len(calls) == 1
    assert analysis.breakdown.ap50 == pytest.approx(analysis.scores.metrics["AP50"], abs=1e-12)
    assert sum(row.objects for row in analysis.classes) == (~index.crowd).sum()
    pictures = analysis.pictures
    assert pictures.threshold == analysis.thresholds.best
    right, wrong, missed = (int(c.sum()) for c in (pictures.right, pictures.wrong, pictures.missed))
    assert right + missed == (~index.crowd).sum()
    assert right / (right + wrong) == pytest.approx(analysis.thresholds.best_precision)
    assert right / (right + missed) == pytest.approx(analysis.thresholds.best_recall)
    errors = analysis.breakdown
    assert analysis.calibration.counts.sum() == sum(
        kind != "ignored" for i in range(len(index)) for kind in pictures.boxes(i).kinds
    )
    assert errors.false_positives == sum(
        kind == "wrong" for i in range(len(index)) for kind in pictures.boxes(i).kinds
    )
    assert analysis.num_detections == len(results)


def test_pictures_by_hand(scene, index_of, rows_of) -> None:
    index, results = scene
    pictures = analysed(index, results).pictures
    assert pictures.threshold == 0.9
    assert (pictures.right.tolist(), pictures.wrong.tolist()) == ([1, 0], [1, 0])
    assert pictures.missed.tolist() == [3, 1]
    # 2 * 0.9 / (4 objects + 0.9 + 0.95); in the other nothing is found.
    assert pictures.quality == pytest.approx([1.8 / 5.85, 0])
    assert pictures.order.tolist() == [1, 0]
    boxes = pictures.boxes(0)
    assert boxes.scores.tolist() == [0.95, 0.9, 0.8, 0.7, 0.6, 0.5]
    assert boxes.boxes[4].tolist() == [61, 0, 71, 10]
    assert boxes.labels.tolist() == [0] * 6
    assert boxes.kinds == ("wrong", "right", *["wrong"] * 4)
    assert boxes.errors == (
        "background", None, "duplicate", "localisation", "classification", "both"
    )  # fmt: skip
    assert boxes.truth_boxes[:, 0].tolist() == [0, 30, 60, 90]
    assert boxes.truth_labels.tolist() == [0, 0, 1, 0]
    assert boxes.truth_kinds == ("found", "missed", "missed", "missed")
    other = pictures.boxes(1)
    assert (other.kinds, other.boxes.shape, other.truth_kinds) == ((), (0, 4), ("missed",))
    # Below the threshold a detection finds nothing, but stays right; a crowd excuses.
    index = index_of([(0, 0, 0, False), (0, 30, 0, False), (1, 0, 0, True)])
    rows = rows_of([(3, 0, 0.9, 7), (3, 60, 0.8, 7), (3, 30, 0.1, 7), (8, 0, 0.95, 7)])
    rows = np.concatenate([rows, rows_of([(3, 60 + i, 0.7, 7) for i in range(9)])])
    pictures = analysed(index, rows).pictures
    assert pictures.threshold == 0.9
    assert pictures.boxes(0).kinds[-1] == "right"
    assert pictures.boxes(0).truth_kinds == ("found", "missed")
    assert pictures.boxes(1).kinds == ("ignored",)
    assert pictures.boxes(1).truth_kinds == ("crowd",)
    assert np.isnan(pictures.quality[1])
    assert pictures.order.tolist() == [0]


@pytest.mark.parametrize(
    "backend",
    ["pycocotools", pytest.param("faster_coco_eval", marks=pytest.mark.extra("fast-eval"))],
)
def test_nothing_found(index_of, rows_of, backend: str) -> None:
    options = EvaluationOptions(backend=backend)  # type: ignore[arg-type]
    index = index_of([(0, 0, 0, False), (0, 30, 0, False), (1, 0, 0, True)])
    analysis = analysed(index, rows_of([]), options=options)
    assert analysis.scores.metrics["mAP"] == 0
    assert analysis.confusion.tolist() == [[0, 0, 2], [0, 0, 0], [0, 0, 0]]
    assert analysis.breakdown.costs["missed"] == 1
    assert analysis.breakdown.counts["missed"] == 2
    assert analysis.curves.at50.tolist() == [0] * 101
    assert np.isnan(analysis.thresholds.precision).all()
    assert analysis.thresholds.best_f1 == 0
    assert np.isnan(analysis.calibration.error)
    assert analysis.classes[0].ap == 0
    assert np.isnan(analysis.classes[1].ap)
    assert analysis.pictures.missed.tolist() == [2, 0]
    assert analysis.pictures.order.tolist() == [0]


def test_nothing_there(index_of, rows_of) -> None:
    only_crowds = [(0, 0, 0, True), (1, 0, 1, True)]
    for objects in ([], only_crowds):
        index = index_of(objects)
        for rows in (rows_of([]), rows_of([(3, 0, 0.9, 7), (8, 50, 0.8, 2)])):
            analysis = analysed(index, rows)
            assert np.isnan(analysis.scores.metrics["mAP"])
            assert np.isnan(analysis.breakdown.ap50)
            assert np.isnan(analysis.curves.mean).all()
            assert np.isnan(analysis.thresholds.f1).all()
            assert np.isnan(analysis.thresholds.best_f1)
            excused = bool(objects) * bool(len(rows))  # the cat lies in its crowd
            wrong = len(rows) - excused
            assert analysis.breakdown.counts["background"] == wrong
            assert analysis.confusion.sum() == sum(rows[:, 5] >= 0.5) - excused
            assert len(analysis.pictures.order) == wrong
            assert analysis.calibration.counts.sum() == wrong


def test_one_class_and_some_pictures(index_of, rows_of) -> None:
    index = index_of([(0, 0, 0, False), (1, 0, 0, False), (1, 30, 0, False)])
    rows = rows_of([(3, 0, 0.9, 7), (8, 0, 0.8, 7), (8, 60, 0.85, 7)])
    analysis = analysed(index, rows, np.array([8]))
    pictures = analysis.pictures
    assert (pictures.image_ids.tolist(), pictures.rows.tolist()) == ([8], [1])
    assert analysis.num_detections == 2
    assert analysis.classes[0].objects == 2
    assert analysis.breakdown.counts["missed"] == 1
    # Wrong, right; one of two cats: precision 1/2 up to recall 0.5.
    assert analysis.breakdown.ap50 == pytest.approx(51 / 2 / 101)
    assert analysis.scores.metrics["AP50"] == pytest.approx(51 / 2 / 101)
    alone = replace(index_of([(0, 0, 0, False)]), class_names=("cat",), category_ids=np.array([7]))
    analysis = analysed(alone, rows[:1])
    assert analysis.confusion.tolist() == [[1, 0], [0, 0]]
    assert analysis.scores.metrics["AP50"] == analysis.breakdown.ap50 == pytest.approx(1)
    assert sum(analysis.breakdown.counts.values()) == 0

"""Confusions, precision-recall curves, classes and thresholds."""

import numpy as np
import pytest

from efficientdet.evaluation.curves import (
    DEFAULT_THRESHOLD,
    average_precision,
    by_threshold,
    class_rows,
    precision_recall,
)
from efficientdet.evaluation.detections import confusion_matrix
from efficientdet.evaluation.evaluator import CocoEvaluator, EvaluationOptions
from efficientdet.evaluation.pairs import match, match_across_classes, pair_up


def test_confusion_by_hand(scene) -> None:
    index, results = scene
    pairs = pair_up(index, results, index.image_ids, max_detections=100)
    across = match_across_classes(pairs, min_iou=0.5)
    # One cat is found, the dog is taken for a cat, three cats are not found, and four cats are
    # where none is: nothing, the cat again, beside a cat, beside the dog.
    assert confusion_matrix(pairs, across, min_score=0.5).tolist() == [
        [1, 0, 3],
        [1, 0, 0],
        [4, 0, 0],
    ]
    # Two detections less: the one of the dog, and that beside it.
    assert confusion_matrix(pairs, across, min_score=0.65).tolist() == [
        [1, 0, 3],
        [0, 0, 1],
        [3, 0, 0],
    ]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("min_score", [0.0, 0.4, 2.0])
def test_confusions_add_up(drawn, seed: int, min_score: float) -> None:
    index, results = drawn(seed)
    pairs = pair_up(index, results, index.image_ids, max_detections=100)
    across = match_across_classes(pairs, min_iou=0.5)
    matrix = confusion_matrix(pairs, across, min_score=min_score)
    objects = np.bincount(index.labels[~index.crowd], minlength=6)
    assert matrix[:-1].sum(1).tolist() == objects.tolist()
    counted = (pairs.found.scores >= min_score) & ~across.ignored
    found = np.bincount(pairs.found.labels[counted], minlength=6)
    assert matrix[:, :-1].sum(0).tolist() == found.tolist()
    assert matrix[-1, -1] == 0


@pytest.mark.parity
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("part", [slice(None), slice(3, 30, 2)])
def test_curves_and_classes_are_the_evaluation_s(drawn, seed: int, part: slice) -> None:
    index, results = drawn(seed)
    image_ids = index.image_ids[part]
    evaluator = CocoEvaluator(index, EvaluationOptions("pycocotools"))
    found = evaluator.scored(results, image_ids)
    scores, curves = found.scores, found.curves
    again = evaluator.score(results, image_ids)
    assert str(scores) == str(again)  # nan is not equal to itself
    lines = precision_recall(curves)
    for line, name in ((lines.at50, "AP50"), (lines.at75, "AP75"), (lines.mean, "mAP")):
        assert line.shape == lines.recalls.shape == (101,)
        assert line.mean() == pytest.approx(scores.metrics[name], abs=1e-12)
        assert (np.diff(line) <= 1e-12).all()
    pairs = pair_up(index, results, image_ids, max_detections=100)
    rows = class_rows(pairs, curves)
    counted = np.isin(np.repeat(index.image_ids, np.diff(index.offsets)), image_ids) & ~index.crowd
    for label, row in enumerate(rows):
        assert row.name == index.class_names[label]
        assert row.ap == pytest.approx(scores.class_ap[row.name], nan_ok=True)
        assert row.objects == (index.labels[counted] == label).sum()
        assert row.ap50 == pytest.approx(lines.classes_at50[label].mean(), nan_ok=True)
    assert np.isnan(rows[-1].ap)
    for ours, name in (
        ("ap75", "AP75"), ("ap_small", "APs"), ("ap_medium", "APm"), ("ar", "AR100")
    ):  # fmt: skip
        values = [getattr(row, ours) for row in rows]
        assert np.nanmean(values) == pytest.approx(scores.metrics[name], abs=1e-12)
    # Our own AP, of our own matches, is the same.
    matches = match(pairs, min_iou=0.5)
    order = np.argsort(-pairs.found.scores)
    order = order[~matches.ignored[order]]
    ap50 = average_precision(pairs.found.labels[order], matches.right[order], pairs.truth.count(6))
    assert ap50 == pytest.approx([row.ap50 for row in rows], abs=1e-12, nan_ok=True)


def test_thresholds_by_hand(scene) -> None:
    index, results = scene
    pairs = pair_up(index, results, index.image_ids, max_detections=100)
    lines = by_threshold(pairs, match(pairs, min_iou=0.5))
    # From 0.95 down: wrong, right, four wrong ones; five objects.
    at = {0.0: (1 / 6, 1 / 5, 2 / 11), 0.9: (1 / 2, 1 / 5, 2 / 7), 0.95: (0, 0, 0)}
    for score, expected in at.items():
        i = round(score * 100)
        assert lines.scores[i] == score
        values = (lines.precision[i], lines.recall[i], lines.f1[i])
        assert values == pytest.approx(expected)
    assert np.isnan(lines.precision[96:]).all()
    assert (lines.recall[96:] == 0).all()
    best = (lines.best, lines.best_precision, lines.best_recall, lines.best_f1)
    assert best == pytest.approx((0.9, 1 / 2, 1 / 5, 2 / 7))


def test_threshold_of_equal_scores_takes_all(index_of, rows_of) -> None:
    index = index_of([(0, 0, 0, False), (0, 30, 0, False)])
    rows = rows_of([(3, 0, 0.7, 7), (3, 30, 0.7, 7), (3, 60, 0.7, 7)])
    pairs = pair_up(index, rows, index.image_ids, max_detections=100)
    lines = by_threshold(pairs, match(pairs, min_iou=0.5))
    assert (lines.best, lines.best_precision, lines.best_recall) == (0.7, 2 / 3, 1)
    assert lines.best_f1 == pytest.approx(4 / 5)
    pairs = pair_up(index, rows[2:], index.image_ids, max_detections=100)
    lines = by_threshold(pairs, match(pairs, min_iou=0.5))
    assert (lines.best, lines.best_precision, lines.best_f1) == (DEFAULT_THRESHOLD, 0, 0)


@pytest.mark.parametrize("seed", range(2))
def test_threshold_is_what_leaving_out_gives(drawn, seed: int) -> None:
    index, results = drawn(seed)
    pairs = pair_up(index, results, index.image_ids, max_detections=100)
    lines = by_threshold(pairs, match(pairs, min_iou=0.5))
    f1 = []
    for score in np.sort(results[:, 5]):
        some = pair_up(index, results[results[:, 5] >= score], index.image_ids, max_detections=100)
        matches = match(some, min_iou=0.5)
        right, wrong = int(matches.right.sum()), int(matches.wrong.sum())
        missed = int((~index.crowd).sum()) - right
        f1.append(2 * right / (2 * right + wrong + missed))
        if score == lines.best:
            assert lines.best_precision == pytest.approx(right / (right + wrong))
    assert lines.best_f1 == pytest.approx(max(f1), abs=1e-12)

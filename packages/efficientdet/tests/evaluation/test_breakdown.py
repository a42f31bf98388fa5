"""Errors and their costs: by hand, and by pycocotools, which is fed what an oracle mended."""

from dataclasses import replace

import numpy as np
import pytest

from efficientdet.data.index import AnnotationIndex
from efficientdet.evaluation.breakdown import KINDS, Breakdown, break_down
from efficientdet.evaluation.evaluator import CocoEvaluator, EvaluationOptions
from efficientdet.evaluation.pairs import Pairs, match, pair_up


def broken_down(index: AnnotationIndex, results: np.ndarray) -> tuple[Pairs, Breakdown]:
    pairs = pair_up(index, results, index.image_ids, max_detections=100)
    return pairs, break_down(pairs, match(pairs, min_iou=0.5))


def test_each_kind_by_hand(scene) -> None:
    _, errors = broken_down(*scene)
    assert errors.counts == {kind: 2 if kind == "missed" else 1 for kind in KINDS}
    names = [KINDS[kind] if kind >= 0 else "right" for kind in errors.kinds]
    assert names == [
        "background", "right", "duplicate", "localisation", "classification", "both"
    ]  # fmt: skip
    assert errors.missed.tolist() == [False, False, False, True, True]
    assert (errors.false_positives, errors.false_negatives) == (5, 4)
    # Four cats: wrong, right, wrong ... is precision 1/2 at recalls 0 to 0.25, 26 of 101 points;
    # the dog is not found.
    assert errors.ap50 == pytest.approx((26 / 2 / 101 + 0) / 2)
    expected = {
        "classification": 1 / 2,  # the dog's AP becomes 1
        # Wrong, right, wrong, right: precision 1/2 up to recall 0.5, 25 points more.
        "localisation": 25 / 2 / 101 / 2,
        "both": 0,
        "duplicate": 0,
        "background": 13 / 101 / 2,  # the right one is first: precision 1, not 1/2
        "missed": 25 / 2 / 101 / 2,  # one of two cats: 1/2 up to recall 0.5
    }
    assert errors.costs == pytest.approx(expected)
    assert errors.false_positives_cost == pytest.approx(13 / 101 / 2)
    # The one cat that is left is found second; no dog is left, so that dogs do not count.
    assert errors.false_negatives_cost == pytest.approx(1 / 2 - errors.ap50)


def test_the_best_detection_mends_an_object(index_of, rows_of) -> None:
    index = index_of([(0, 0, 0, False)])
    beside = [(3, 5, 0.8, 7), (3, -5, 0.9, 7)]  # IoU 5 / 15 both
    _, errors = broken_down(index, rows_of(beside))
    # The other one is left out: precision 1. The object is not missed, as it would be found.
    assert errors.costs["localisation"] == pytest.approx(1)
    assert errors.counts["missed"] == 0
    # A dog where the cat is, scored better, has the object now. Mended it gives all.
    _, errors = broken_down(index, rows_of([*beside, (3, 1, 0.95, 2)]))
    costs = (errors.costs["localisation"], errors.costs["classification"])
    assert costs == pytest.approx((0, 1))
    _, errors = broken_down(index, rows_of([*beside, (3, 1, 0.85, 2)]))
    costs = (errors.costs["localisation"], errors.costs["classification"])
    assert costs == pytest.approx((1, 0))


def test_nothing_is_left_to_find(index_of, rows_of) -> None:
    index = index_of([(0, 0, 0, False), (0, 30, 1, False), (1, 0, 0, True)])
    _, errors = broken_down(index, rows_of([]))
    assert errors.ap50 == 0
    assert errors.costs["missed"] == errors.false_negatives_cost == 1
    # A cat at best precision; the dog then counts as found as well.
    _, errors = broken_down(index, rows_of([(3, 0, 0.9, 7)]))
    assert (errors.ap50, errors.costs["missed"]) == pytest.approx((1 / 2, 1 / 2))
    _, errors = broken_down(index_of([(1, 0, 0, True)]), rows_of([(3, 0, 0.9, 7)]))
    assert errors.counts["background"] == 1
    assert np.isnan([errors.ap50, *errors.costs.values(), errors.false_negatives_cost]).all()


def plain(pairs: Pairs) -> tuple[list[str], list[int]]:
    """Return kind and object of each detection, by the words of the paper and a loop."""
    found, truth = pairs.found, pairs.truth
    values = np.zeros((len(found.scores), len(truth.labels)))
    values[pairs.detections, pairs.objects] = pairs.overlaps
    matches = match(pairs, min_iou=0.5)
    kinds, objects = [], []
    for i, label in enumerate(found.labels):
        own = np.where((truth.labels == label) & ~truth.crowd, values[i], 0)
        other = np.where((truth.labels != label) & ~truth.crowd, values[i], 0)
        kind, target = "right", -1
        if matches.wrong[i]:
            if 0.1 <= own.max() < 0.5:
                kind, target = "localisation", own.argmax()
            elif other.max() >= 0.5:
                kind, target = "classification", other.argmax()
            elif own.max() >= 0.5:
                kind = "duplicate"
            elif max(own.max(), other.max()) <= 0.1:
                kind = "background"
            else:
                kind = "both"
        kinds.append(kind)
        objects.append(int(target))
    return kinds, objects


def rows_of_found(pairs: Pairs, index: AnnotationIndex) -> np.ndarray:
    found = pairs.found
    columns = (
        pairs.image_ids[found.pictures],
        *found.boxes[:, :2].T,
        *(found.boxes[:, 2:] - found.boxes[:, :2]).T,
        found.scores,
        index.category_ids[found.labels],
    )
    return np.stack(columns, 1)


def without(index: AnnotationIndex, gone: np.ndarray) -> AnnotationIndex:
    owners = np.repeat(np.arange(len(index)), np.diff(index.offsets))[~gone]
    columns = {name: getattr(index, name)[~gone] for name in ("boxes", "labels", "crowd", "areas")}
    offsets = np.searchsorted(owners, np.arange(len(index) + 1))
    return replace(index, offsets=offsets, **columns)


@pytest.mark.parity
@pytest.mark.parametrize("seed", range(3))
def test_pycocotools_scores_what_was_mended(drawn, seed: int) -> None:
    index, results = drawn(seed)
    pairs, errors = broken_down(index, results)

    def ap50(rows: np.ndarray, truth: AnnotationIndex = index) -> float:
        evaluator = CocoEvaluator(truth, EvaluationOptions("pycocotools"))
        return evaluator.score(rows, truth.image_ids).metrics["AP50"]

    before = ap50(results)
    assert errors.ap50 == pytest.approx(before, abs=1e-12)
    assert 0.1 < before < 0.7
    kinds, objects = plain(pairs)
    assert [KINDS[kind] if kind >= 0 else "right" for kind in errors.kinds] == kinds
    assert all(count > 4 for count in errors.counts.values())
    matches = match(pairs, min_iou=0.5)
    free = (matches.detections < 0) & ~pairs.truth.crowd
    mender: dict[int, int] = {}  # the first of a picture is the best
    for i, target in enumerate(objects):
        if target >= 0 and free[target]:
            mender.setdefault(target, i)
    rows = rows_of_found(pairs, index)
    for kind in KINDS[:-1]:
        mended, kept = rows.copy(), []
        for i, (name, target) in enumerate(zip(kinds, objects, strict=True)):
            if name == kind and mender.get(target) == i:
                box = index.boxes[target]
                mended[i, 1:5] = [*box[:2], *(box[2:] - box[:2])]
                mended[i, 6] = index.category_ids[index.labels[target]]
                kept.append(i)
            elif name != kind:
                kept.append(i)
        assert errors.costs[kind] == pytest.approx(ap50(mended[kept]) - before, abs=1e-12)
        assert errors.costs[kind] > 0
    missed = free.copy()
    missed[list(mender)] = False
    assert errors.counts["missed"] == missed.sum()
    assert errors.costs["missed"] == pytest.approx(
        ap50(results, without(index, missed)) - before, abs=1e-12
    )
    assert errors.false_negatives_cost == pytest.approx(
        ap50(results, without(index, free)) - before, abs=1e-12
    )
    right = np.array([name == "right" for name in kinds])
    assert errors.false_positives_cost == pytest.approx(ap50(rows[right]) - before, abs=1e-12)

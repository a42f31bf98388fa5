"""Overlaps and matches: by hand, by a plain loop and by pycocotools."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools import mask
from pycocotools.cocoeval import COCOeval

from efficientdet.evaluation import pairs as module
from efficientdet.evaluation.coco_ap import to_coco
from efficientdet.evaluation.pairs import Pairs, match, match_across_classes, pair_up


def xywh(boxes: np.ndarray) -> np.ndarray:
    return np.hstack((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]))


def overlaps(pairs: Pairs) -> np.ndarray:
    """Return all overlaps ``(D, G)``, 0 between pictures, by pycocotools."""
    found, truth = pairs.found, pairs.truth
    crowd = truth.crowd.astype(np.uint8).tolist()
    values = mask.iou(xywh(found.boxes), xywh(truth.boxes), crowd)
    return values * (found.pictures[:, None] == truth.pictures)


def test_order_and_what_counts(index_of, rows_of) -> None:
    index = index_of([(0, 0, 0, False), (1, 20, 1, True)])
    rows = rows_of([(8, 25, 0.3, 2), (3, 5, 0.2, 7), (3, 1, 0.9, 7), (3, 2, 0.8, 7), (3, 3, 1, 99)])
    pairs = pair_up(index, rows, index.image_ids, max_detections=2)
    # The third cat is one too many, and there is no category 99.
    assert pairs.found.scores.tolist() == [0.9, 0.8, 0.3]
    assert pairs.found.pictures.tolist() == [0, 0, 1]
    assert pairs.found.labels.tolist() == [0, 0, 1]
    assert pairs.found.boxes[2].tolist() == [25, 0, 35, 10]
    assert (pairs.detections.tolist(), pairs.objects.tolist()) == ([0, 1, 2], [0, 0, 1])
    # 9 / 11, 8 / 12; of the crowd the share that is inside, 5 / 10.
    assert pairs.overlaps == pytest.approx([9 / 11, 8 / 12, 0.5])
    part = pair_up(index, rows, np.array([8]), max_detections=2)
    assert part.rows.tolist() == [1]
    assert (part.found.scores.tolist(), part.truth.boxes[:, 0].tolist()) == ([0.3], [20])
    assert part.truth.count(2).tolist() == [0, 0]
    with pytest.raises(ValueError, match="image id 5 is not in the index"):
        pair_up(index, rows, np.array([3, 5]), max_detections=2)


def test_matching_by_hand(index_of, rows_of) -> None:
    index = index_of([(0, 0, 0, False), (0, 4, 0, False), (0, 0, 1, False), (0, 40, 0, True)])
    rows = rows_of(
        [
            (3, 1, 0.9, 7),  # 9 / 11 of the cat at 0, 7 / 13 of that at 4
            (3, 0, 0.8, 7),  # the cat at 0 is taken; 6 / 14 of that at 4 is too little
            (3, 1.5, 0.7, 7),  # so that this gets it: 7.5 / 12.5
            (3, 45, 0.6, 7),  # half inside the crowd
            (3, 45, 0.5, 2),  # of dogs there is no crowd
        ]
    )
    pairs = pair_up(index, rows, index.image_ids, max_detections=100)
    matches = match(pairs, min_iou=0.5)
    assert matches.objects.tolist() == [0, -1, 1, -1, -1]
    assert matches.detections.tolist() == [0, 2, -1, -1]
    assert matches.ignored.tolist() == [False, False, False, True, False]
    assert matches.wrong.tolist() == [False, True, False, False, True]
    # Whatever the class: the second takes the dog at 0, which the first, a cat, left.
    across = match_across_classes(pairs, min_iou=0.5)
    assert across.objects.tolist() == [0, 2, 1, -1, -1]
    assert across.ignored.tolist() == matches.ignored.tolist()
    assert match(pairs, min_iou=0.75).objects.tolist() == [0, -1, -1, -1, -1]


@pytest.mark.parity
@pytest.mark.parametrize("seed", range(3))
def test_pycocotools_matches_the_same(drawn, seed: int) -> None:
    index, results = drawn(seed)
    truth = to_coco(index)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.params.maxDets = [1, 2, 3]  # so that some do not count
        evaluation.evaluate()
    pairs = pair_up(index, results, index.image_ids, max_detections=3)
    some = 0
    for position, min_iou in ((0, 0.5), (5, 0.75)):
        theirs = {}
        for entry in evaluation.evalImgs:
            if entry and entry["aRng"] == [0, 1e10]:
                columns = (entry["dtMatches"][position], entry["dtIgnore"][position])
                theirs |= dict(zip(entry["dtScores"], zip(*columns, strict=True), strict=True))
        matches = match(pairs, min_iou=min_iou)
        assert len(theirs) == len(pairs.found.scores) < len(results)
        for i, score in enumerate(pairs.found.scores.tolist()):
            matched, ignored = theirs[score]
            assert matches.ignored[i] == ignored
            if not ignored:
                assert matches.objects[i] == matched - 1  # its ids begin at 1
            some += bool(ignored)
    assert some > 5


@pytest.mark.parametrize("seed", range(3))
def test_a_plain_loop_matches_the_same(drawn, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    index, results = drawn(seed)
    whole = pair_up(index, results, index.image_ids, max_detections=100)
    monkeypatch.setattr(module, "_AT_ONCE", 50)  # several rounds
    pairs = pair_up(index, results, index.image_ids, max_detections=100)
    assert (pairs.overlaps == whole.overlaps).all()
    values = overlaps(pairs)
    assert pairs.overlaps == pytest.approx(values[pairs.detections, pairs.objects], abs=1e-12)
    assert len(pairs.overlaps) == (values > 0).sum()
    found, truth = pairs.found, pairs.truth
    same = found.labels[:, None] == truth.labels
    for matches, allowed in (
        (match(pairs, min_iou=0.5), same),
        (match_across_classes(pairs, min_iou=0.5), np.ones_like(same)),
    ):
        taken: set[int] = set()
        for i in np.argsort(-found.scores):
            free = [g for g in np.flatnonzero(allowed[i] & ~truth.crowd) if g not in taken]
            best = max(free, key=lambda g: values[i, g], default=-1)
            best = best if best >= 0 and values[i, best] >= 0.5 else -1
            crowds = (values[i] >= 0.5) & truth.crowd & same[i]
            assert matches.objects[i] == best
            assert matches.ignored[i] == (best < 0 and crowds.any())
            if best >= 0:
                assert matches.detections[best] == i
                taken.add(best)
        assert (matches.detections >= 0).sum() == len(taken) > 40

"""From outputs made by hand to detections."""

import pytest
import torch
from torch import Tensor

from efficientdet.anchors import make_anchors
from efficientdet.matcher import assign
from efficientdet.postprocess import Detections, postprocess

CLASSES = 3
# Nine anchors of one place: 0 and 1 overlap by 90 / 110 = 0.82, 2 and 3 by 50 / 150 = 0.33.
ANCHORS = torch.tensor(
    [[0, 0, 10, 10], [1, 0, 11, 10], [30, 0, 40, 10], [35, 0, 45, 10]]
    + [[100 * i, 50, 100 * i + 10, 60] for i in range(5)],
    dtype=torch.float32,
)


def detect(scores: dict[tuple[int, int], float], **settings: float) -> Detections:
    """Return what is found where (anchor, class) has the given logit and the rest -20."""
    logits = torch.full((1, 9 * CLASSES, 1, 1), -20.0)
    for (anchor, label), score in scores.items():
        logits[0, anchor * CLASSES + label] = score
    (found,) = postprocess([logits], [torch.zeros(1, 36, 1, 1)], ANCHORS, **settings)  # type: ignore[arg-type]
    return found


def test_one_anchor_may_have_several_labels() -> None:
    found = detect({(4, 2): 1.0, (4, 0): 2.0})
    assert found.labels.tolist() == [0, 2]
    torch.testing.assert_close(found.boxes_xyxy, ANCHORS[[4, 4]])
    # sigmoid(2) and sigmoid(1)
    torch.testing.assert_close(found.scores, torch.tensor([0.880797, 0.731059]))


def test_overlap_within_a_class_is_suppressed() -> None:
    found = detect({(0, 1): 1.0, (1, 1): 2.0, (2, 1): 3.0, (3, 1): 0.0})
    torch.testing.assert_close(found.boxes_xyxy, ANCHORS[[2, 1, 3]])
    found = detect({(0, 1): 1.0, (1, 1): 2.0, (2, 1): 3.0, (3, 1): 0.0}, nms_iou=0.3)
    torch.testing.assert_close(found.boxes_xyxy, ANCHORS[[2, 1]])


def test_overlap_between_classes_stays() -> None:
    found = detect({(0, 0): 1.0, (1, 1): 2.0})
    assert found.labels.tolist() == [1, 0]


def test_limits() -> None:
    scores = {(anchor, 0): float(anchor) for anchor in range(4, 9)}
    assert len(detect(scores).scores) == 5
    torch.testing.assert_close(detect(scores, max_detections=2).boxes_xyxy, ANCHORS[[8, 7]])
    torch.testing.assert_close(detect(scores, max_candidates=1).boxes_xyxy, ANCHORS[[8]])


def test_candidates_are_counted_before_nms() -> None:
    scores = {(0, 0): 3.0, (1, 0): 2.0, (4, 0): 1.0}
    assert len(detect(scores, max_candidates=2).scores) == 1


def test_score_threshold_is_inclusive() -> None:
    scores = {(4, 0): 0.0, (5, 0): -0.1}  # 0.5 and 0.475
    assert len(detect(scores, score_threshold=0.5).scores) == 1
    assert len(detect(scores, score_threshold=0.51).scores) == 0
    # sigmoid(-20) = 2e-9 of all the others is under the default
    assert len(detect(scores).scores) == 2


def test_nothing_found() -> None:
    found = detect({})
    assert found.boxes_xyxy.shape == (0, 4)
    assert found.scores.shape == found.labels.shape == (0,)


@pytest.mark.parametrize("far", [1e9, -1e3])
def test_far_box_of_another_class_changes_nothing(far: float) -> None:
    """Classes must be kept apart whatever the boxes' coordinates, which nothing bounds."""
    boxes = torch.tensor([[0, 0, 10, 10], [1, 0, 11, 10], [30, 0, 40, 10], [-1e3, -1e3, 0, 0]])
    boxes[3] = torch.tensor([0, 0, far, far]) if far > 0 else torch.tensor([far, far, -5, -5])
    anchors = torch.cat((boxes, ANCHORS[4:]))
    logits = torch.full((1, 9 * CLASSES, 1, 1), -20.0)
    for anchor, label, score in ((0, 2, 3.0), (1, 2, 2.0), (2, 2, 1.0), (3, 0, 0.0)):
        logits[0, anchor * CLASSES + label] = score
    (found,) = postprocess([logits], [torch.zeros(1, 36, 1, 1)], anchors)
    torch.testing.assert_close(found.boxes_xyxy, boxes[[0, 2, 3]])


def test_boxes_left_of_the_picture_meet_no_other_class() -> None:
    anchors = torch.cat((torch.tensor([[200.0, 200, 600, 600], [-400, -400, 0, 0]]), ANCHORS[2:]))
    logits = torch.full((1, 9 * CLASSES, 1, 1), -20.0)
    logits[0, 0 * CLASSES + 0], logits[0, 1 * CLASSES + 1] = 2.0, 1.0
    (found,) = postprocess([logits], [torch.zeros(1, 36, 1, 1)], anchors)
    assert found.labels.tolist() == [0, 1]


def test_objects_written_as_outputs_come_back() -> None:
    size, levels = (96, 160), range(3, 8)
    anchors = make_anchors(size, levels, scale=4.0)
    objects = [
        torch.tensor([[10.0, 12, 50, 40], [60, 5, 70, 90], [12, 12, 52, 40]]),
        torch.tensor([[0.0, 0, 160, 96]]),
    ]
    labels = [torch.tensor([2, 0, 1]), torch.tensor([1])]
    targets = assign(anchors, objects, labels)
    logits = torch.full((2, len(anchors), CLASSES), -20.0)
    logits[targets.images, targets.anchors, targets.labels] = 5.0
    codes = torch.zeros(2, len(anchors), 4)
    codes[targets.images, targets.anchors] = targets.codes

    def by_level(rows: Tensor) -> list[Tensor]:
        maps, start = [], 0
        for level in levels:
            h, w = -(-size[0] // 2**level), -(-size[1] // 2**level)
            part = rows[:, start : start + h * w * 9].reshape(2, h, w, -1)
            maps.append(part.permute(0, 3, 1, 2))
            start += h * w * 9
        return maps

    for found, boxes, wanted in zip(
        postprocess(by_level(logits), by_level(codes), anchors), objects, labels, strict=True
    ):
        order = found.labels.argsort()
        assert found.labels[order].tolist() == wanted.sort().values.tolist()
        expected = boxes[wanted.argsort()]
        torch.testing.assert_close(found.boxes_xyxy[order], expected, rtol=0, atol=1e-3)

"""From outputs made by hand to detections."""

import pytest
import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms

from compound.errors import UserError
from efficientdet.anchors import make_anchors
from efficientdet.boxes import decode
from efficientdet.matcher import assign
from efficientdet.postprocess import Detections, Suppression, postprocess

CLASSES = 3
# Nine anchors of one place: 0 and 1 overlap by 90 / 110 = 0.82, 2 and 3 by 50 / 150 = 0.33.
ANCHORS = torch.tensor(
    [[0, 0, 10, 10], [1, 0, 11, 10], [30, 0, 40, 10], [35, 0, 45, 10]]
    + [[100 * i, 50, 100 * i + 10, 60] for i in range(5)],
    dtype=torch.float32,
)


def detect(scores: dict[tuple[int, int], float], **settings) -> Detections:
    """Return what is found where (anchor, class) has the given logit and the rest -20."""
    logits = torch.full((1, 9 * CLASSES, 1, 1), -20.0)
    for (anchor, label), score in scores.items():
        logits[0, anchor * CLASSES + label] = score
    (found,) = postprocess([logits], [torch.zeros(1, 36, 1, 1)], ANCHORS, **settings)
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


def test_fast_gives_an_anchor_one_label_and_classes_suppress_each_other() -> None:
    scores = {(4, 2): 1.0, (4, 0): 2.0, (0, 0): 1.5, (1, 1): 0.5}  # 0 and 1 overlap by 0.82
    found = detect(scores, method="fast")
    assert found.labels.tolist() == [0, 0]
    torch.testing.assert_close(found.boxes_xyxy, ANCHORS[[4, 0]])
    assert detect(scores, method="fast", nms_iou=0.9).labels.tolist() == [0, 0, 1]


def test_soft_takes_score_from_overlap_within_a_class_only() -> None:
    scores = {(0, 1): 2.0, (1, 1): 1.0, (1, 0): 0.0}
    found = detect(scores, method="soft")
    # sigmoid(1) = 0.731059 times exp(-(90 / 110)^2 / 0.5) = 0.262149; sigmoid(2), sigmoid(0)
    torch.testing.assert_close(found.scores, torch.tensor([0.880797, 0.5, 0.191646]))
    torch.testing.assert_close(found.boxes_xyxy, ANCHORS[[0, 1, 1]])
    assert found.labels.tolist() == [1, 0, 1]
    # gentler: times exp(-(90 / 110)^2 / 2) = 0.715545
    gentle = detect(scores, method="soft", sigma=2.0)
    torch.testing.assert_close(gentle.scores, torch.tensor([0.880797, 0.523105, 0.5]))
    assert len(detect(scores, method="soft", score_threshold=0.3).scores) == 2


def test_combination_of_ones_own() -> None:
    across = Suppression(one_label=False, across_classes=True, soft=False)
    found = detect({(4, 2): 1.0, (4, 0): 2.0, (5, 1): 0.0}, method=across)
    assert found.labels.tolist() == [0, 1]


def test_unknown_method_is_told() -> None:
    with pytest.raises(UserError, match="method 'sotf' is unknown; did you mean soft"):
        detect({}, method="sotf")


@pytest.mark.parametrize("far", [torch.inf, 1e30])
@pytest.mark.parametrize("method", ["per_class", "fast", "soft"])
def test_boxes_without_bound_leave_finite_scores(method: str, far: float) -> None:
    anchors = ANCHORS.clone()
    codes = torch.zeros(1, 36, 1, 1)
    codes[0, [18, 19, 22, 23]] = far  # two boxes, exp of their sizes is infinite
    logits = torch.full((1, 9 * CLASSES, 1, 1), -20.0)
    logits[0, [4 * CLASSES, 5 * CLASSES, 6 * CLASSES]] = torch.tensor([2.0, 1.0, 0.0]).view(3, 1, 1)
    (found,) = postprocess([logits], [codes], anchors, method=method)
    assert found.scores.isfinite().all()
    assert (found.boxes_xyxy == anchors[6]).all(1).any()


def random_outputs(*, layout: torch.memory_format) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Two pictures, three levels, 6 x 8 places at most; more candidates than NMS begins with."""
    torch.manual_seed(0)
    shapes = [(12, 16), (6, 8), (3, 4)]
    logits = [torch.randn(2, 9 * 5, *s).contiguous(memory_format=layout) for s in shapes]
    codes = [(torch.randn(2, 9 * 4, *s) / 3).contiguous(memory_format=layout) for s in shapes]
    return logits, codes, make_anchors((96, 128), range(3, 6), scale=4.0)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("limits", [(5000, 100), (300, 100), (1500, 1500), (10**9, 50)])
@pytest.mark.parametrize("method", ["per_class", "fast"])
def test_nothing_is_lost_on_the_way(
    method: str, limits: tuple[int, int], layout: torch.memory_format
) -> None:
    """The plain way: every logit sorted, every box decoded, one NMS over all candidates."""
    class_logits, box_codes, anchors = random_outputs(layout=layout)
    logits, codes = (
        torch.cat([x.permute(0, 2, 3, 1).reshape(2, -1, size) for x in levels], 1)
        for levels, size in ((class_logits, 5), (box_codes, 4))
    )
    results = postprocess(
        class_logits,
        box_codes,
        anchors,
        method=method,
        score_threshold=0.3,
        max_candidates=limits[0],
        max_detections=limits[1],
    )
    for image, found in enumerate(results):
        boxes = decode(codes[image], anchors)
        if method == "fast":
            scores, labels = logits[image].sigmoid().max(1)
        else:
            scores, labels = logits[image].sigmoid().flatten(), torch.arange(5).repeat(len(boxes))
            boxes = boxes.repeat_interleave(5, 0)
        order = scores.argsort(descending=True)[: limits[0]]
        order = order[scores[order] >= 0.3]
        boxes, scores, labels = boxes[order], scores[order], labels[order]
        if method == "fast":
            kept = nms(boxes, scores, 0.5)[: limits[1]]
        else:
            kept = batched_nms(boxes.double() + 1e4, scores.double(), labels, 0.5)[: limits[1]]
        torch.testing.assert_close(found.boxes_xyxy, boxes[kept])
        torch.testing.assert_close(found.scores, scores[kept])
        assert torch.equal(found.labels, labels[kept])


@pytest.mark.parametrize("max_candidates", [5000, 18, 12])
def test_fewer_anchors_than_candidates_lose_no_label(max_candidates: int) -> None:
    logits = torch.tensor([2.0, 1.0]).repeat(9)[None, :, None, None]  # 9 anchors, 2 classes
    (found,) = postprocess(
        [logits],
        [torch.zeros(1, 9 * 4, 1, 1)],
        make_anchors((8, 8), range(3, 4), scale=4.0),
        nms_iou=1.0,
        max_candidates=max_candidates,
    )
    assert found.labels.tolist() == ([0] * 9 + [1] * 9)[:max_candidates]


def test_pictures_of_a_batch_do_not_touch() -> None:
    outputs = random_outputs(layout=torch.contiguous_format)
    anchors = outputs[2]
    both = postprocess(*outputs, max_candidates=200)
    for image, found in enumerate(both):
        alone = [[level[image : image + 1] for level in levels] for levels in outputs[:2]]
        (single,) = postprocess(*alone, anchors, max_candidates=200)
        assert all(torch.equal(a, b) for a, b in zip(found, single, strict=True))

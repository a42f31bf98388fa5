"""Weighted box fusion against literals and a plain loop over lists."""

import pytest
import torch
from torch import Tensor

from compound.errors import UserError
from efficientdet.postprocess import Detections
from efficientdet.wbf import fuse


def found(*rows: tuple[list[float], float, int]) -> Detections:
    boxes = torch.tensor([row[0] for row in rows], dtype=torch.float32).reshape(-1, 4)
    scores = torch.tensor([row[1] for row in rows])
    return Detections(boxes, scores, torch.tensor([row[2] for row in rows], dtype=torch.long))


def assert_found(ours: Detections, expected: Detections) -> None:
    assert ours.labels.tolist() == expected.labels.tolist()
    torch.testing.assert_close(ours.scores, expected.scores)
    torch.testing.assert_close(ours.boxes_xyxy, expected.boxes_xyxy)


def test_two_passes() -> None:
    first = found(([0, 0, 10, 10], 0.75, 1), ([40, 40, 60, 60], 0.5, 1))
    second = found(([2, 0, 10, 10], 0.25, 1), ([40, 40, 60, 60], 0.4, 2))
    # IoU 80 / 100. x0 = (0.75 * 0 + 0.25 * 2) / 1 = 0.5; score (0.75 + 0.25) / 2 = 0.5.
    # The others have one voice of two: 0.5 / 2 and 0.4 / 2.
    assert_found(
        fuse([first, second]),
        found(([0.5, 0, 10, 10], 0.5, 1), ([40, 40, 60, 60], 0.25, 1), ([40, 40, 60, 60], 0.2, 2)),
    )


def test_the_mean_box_decides_and_it_moves() -> None:
    passes = [
        found(([0, 0, 10, 10], 0.6, 0)),
        found(([0, 0, 10, 15], 0.6, 0)),  # 100 / 150 = 0.67: joins, the mean is 0, 0, 10, 12.5
        found(([0, 0, 10, 20], 0.3, 0)),  # 125 / 200 = 0.63, though 0.5 with the first
    ]
    # (0.6 * 10 + 0.6 * 15 + 0.3 * 20) / 1.5 = 14; (0.6 + 0.6 + 0.3) / 3 = 0.5
    assert_found(fuse(passes), found(([0, 0, 10, 14], 0.5, 0)))
    # 0.63 is under 0.65, and one of three: 0.3 / 3; the others 0.6 * 2 / 3
    assert_found(
        fuse(passes, iou=0.65), found(([0, 0, 10, 12.5], 0.4, 0), ([0, 0, 10, 20], 0.1, 0))
    )


def test_the_best_box_begins() -> None:
    """In the order given the first would take the second, whose mean is too far from the third."""
    passes = [
        found(([0, 0, 10, 10], 0.2, 0)),
        found(([0, 0, 10, 15], 0.4, 0)),
        found(([0, 0, 10, 22], 0.8, 0)),
    ]
    # 150 / 220 = 0.68 joins: y1 = (0.8 * 22 + 0.4 * 15) / 1.2 = 19.6667; 100 / 196.7
    # = 0.51 does not. Scores 0.6 * 2 / 3 and 0.2 / 3.
    assert_found(
        fuse(passes), found(([0, 0, 10, 19.666667], 0.4, 0), ([0, 0, 10, 10], 0.0666667, 0))
    )


def test_overlap_equal_to_the_threshold_joins() -> None:
    passes = [found(([0, 0, 10, 10], 0.5, 0)), found(([0, 0, 10, 5], 0.5, 0))]  # 50 / 100
    assert len(fuse(passes, iou=0.5).scores) == 1
    assert len(fuse(passes, iou=0.51).scores) == 2


def test_more_members_than_passes_count_once() -> None:
    one = found(([0, 0, 10, 10], 0.6, 0), ([0, 0, 10, 9], 0.4, 0))
    # IoU 90 / 100: y1 = (0.6 * 10 + 0.4 * 9) / 1 = 9.6; score 0.5 * min(2, 1) / 1
    assert_found(fuse([one]), found(([0, 0, 10, 9.6], 0.5, 0)))


def test_weights_of_passes() -> None:
    passes = [found(([0, 0, 10, 10], 0.6, 0)), found(([0, 0, 10, 8], 0.3, 0))]
    # As 1.5 and 0.5: votes 0.9 and 0.15; y1 = (0.9 * 10 + 0.15 * 8) / 1.05; score 1.05 / 2
    expected = found(([0, 0, 10, 10.2 / 1.05], 0.525, 0))
    assert_found(fuse(passes, weights=[3, 1]), expected)
    assert_found(fuse(passes, weights=[0.75, 0.25]), expected)
    # A pass without weight is as if it had not been: votes 1.2 and none.
    assert_found(fuse(passes, weights=[1, 0]), found(([0, 0, 10, 10], 0.6, 0)))


def test_limits() -> None:
    one = found(*(([20 * i, 0, 20 * i + 10, 10], 0.1 * (i + 1), 0) for i in range(5)))
    assert_found(
        fuse([one], max_detections=2), found(([80, 0, 90, 10], 0.5, 0), ([60, 0, 70, 10], 0.4, 0))
    )
    assert len(fuse([one, found()], score_threshold=0.14).scores) == 3  # 0.15, 0.2, 0.25


def test_nothing_found() -> None:
    fused = fuse([found(), found()])
    assert fused.boxes_xyxy.shape == (0, 4)
    assert fused.scores.shape == fused.labels.shape == (0,)
    assert fused.labels.dtype == torch.long


@pytest.mark.parametrize("side", [0.0, torch.inf])
def test_boxes_without_a_size_stay_alone(side: float) -> None:
    one = found(([5, 5, 5 + side, 5 + side], 0.6, 0), ([20, 20, 30, 30], 0.4, 0))
    fused = fuse([one, one])
    # Each of the two has one voice of two; the box between them has both.
    torch.testing.assert_close(fused.scores, torch.tensor([0.4, 0.3, 0.3]))
    assert fused.boxes_xyxy[0].tolist() == [20, 20, 30, 30]


def test_mistakes_are_told() -> None:
    with pytest.raises(UserError, match="none to fuse"):
        fuse([])
    for weights in ([1.0], [1.0, -1.0], [0.0, 0.0], [1.0, float("nan")]):
        with pytest.raises(UserError, match="expected 2 numbers"):
            fuse([found(), found()], weights=weights)


def plain(passes: list[Detections], iou: float) -> list[tuple[float, int, list[float]]]:
    rows = [
        (score, label, box)
        for one in passes
        for box, score, label in zip(*(field.tolist() for field in one), strict=True)
    ]
    clusters: list[list[tuple[float, int, list[float]]]] = []

    def mean(cluster: list[tuple[float, int, list[float]]]) -> list[float]:
        total = sum(score for score, _, _ in cluster)
        return [sum(score * box[side] for score, _, box in cluster) / total for side in range(4)]

    def overlap(a: list[float], b: list[float]) -> float:
        w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
        h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
        return w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h)

    for row in sorted(rows, key=lambda row: -row[0]):
        same = [cluster for cluster in clusters if cluster[0][1] == row[1]]
        nearest = max(same, key=lambda cluster: overlap(mean(cluster), row[2]), default=None)
        if nearest is not None and overlap(mean(nearest), row[2]) >= iou:
            nearest.append(row)
        else:
            clusters.append([row])
    fused = [
        (
            sum(s for s, _, _ in c) / len(c) * min(len(c), len(passes)) / len(passes),
            c[0][1],
            mean(c),
        )
        for c in clusters
    ]
    return sorted(fused, reverse=True)


def scattered(seed: int, count: int) -> Detections:
    """Objects that each pass sees a little differently, in no order."""
    objects = torch.Generator().manual_seed(7)
    corner = torch.rand(count, 2, generator=objects) * 60
    boxes = torch.cat((corner, corner + 10 + torch.rand(count, 2, generator=objects) * 30), 1)
    labels = torch.randint(3, (count,), generator=objects)
    noise = torch.Generator().manual_seed(seed)
    boxes += torch.randn(count, 4, generator=noise)
    seen: Tensor = torch.randperm(count, generator=noise)[: count - 5 * seed]
    return Detections(boxes[seen], torch.rand(len(seen), generator=noise), labels[seen])


@pytest.mark.parametrize("iou", [0.4, 0.55, 0.8])
@pytest.mark.parametrize("passes", [1, 2, 4])
def test_equals_the_plain_loop(passes: int, iou: float) -> None:
    detections = [scattered(seed, 40) for seed in range(passes)]
    expected = plain(detections, iou)
    ours = fuse(detections, iou=iou, max_detections=1000, score_threshold=0.0)
    assert ours.labels.tolist() == [label for _, label, _ in expected]
    torch.testing.assert_close(ours.scores, torch.tensor([score for score, _, _ in expected]))
    torch.testing.assert_close(ours.boxes_xyxy, torch.tensor([box for _, _, box in expected]))


def test_order_of_passes_does_not_matter() -> None:
    detections = [scattered(seed, 30) for seed in range(3)]
    assert_found(fuse(detections), fuse(detections[::-1]))

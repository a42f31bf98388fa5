"""Soft-NMS against literals, a plain loop in double precision, and effdet."""

import math

import pytest
import torch
from effdet.soft_nms import batched_soft_nms
from torch import Tensor

from efficientdet.soft_nms import soft_nms


def plain(
    boxes: Tensor, scores: Tensor, labels: Tensor, sigma: float, threshold: float, count: int
) -> tuple[list[int], list[float]]:
    """The paper's loop within each class, then the best of all classes."""
    found = []
    for label in labels.unique().tolist():
        left = {
            row: (score, box)
            for row, (box, score, own) in enumerate(
                zip(boxes.tolist(), scores.tolist(), labels.tolist(), strict=True)
            )
            if own == label
        }
        while left:
            row = max(left, key=lambda row: left[row][0])
            score, best = left.pop(row)
            if score < threshold:
                break
            found.append((score, row))
            for other, (value, box) in left.items():
                left[other] = value * math.exp(-(overlap(best, box) ** 2) / sigma), box
    found = sorted(found, reverse=True)[:count]
    return [row for _, row in found], [score for score, _ in found]


def overlap(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (areas - width * height)


def candidates(count: int, classes: int, *, crowded: float = 100) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count + classes)
    corner = torch.rand(count, 2, generator=generator) * crowded - crowded / 2
    boxes = torch.cat((corner, corner + 5 + torch.rand(count, 2, generator=generator) * 40), 1)
    scores = torch.rand(count, generator=generator) ** 3
    return boxes, scores, torch.randint(classes, (count,), generator=generator)


def test_three_boxes() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 5, 10, 10]])
    scores = torch.tensor([0.9, 0.8, 0.6])
    kept, decayed = soft_nms(boxes, scores, torch.zeros(3, dtype=torch.long))
    # Both halves overlap the first by 0.5: exp(-0.25 / 0.5) = 0.606531; each other not at all.
    assert kept.tolist() == [0, 1, 2]
    torch.testing.assert_close(decayed, torch.tensor([0.9, 0.8 * 0.606531, 0.6 * 0.606531]))
    kept, decayed = soft_nms(boxes, scores, torch.tensor([0, 1, 0]))
    torch.testing.assert_close(decayed, torch.tensor([0.9, 0.8, 0.6 * 0.606531]))


def test_decay_changes_the_order_and_the_threshold_counts_after_it() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60]])
    scores = torch.tensor([0.9, 0.8, 0.2])
    labels = torch.zeros(3, dtype=torch.long)
    kept, decayed = soft_nms(boxes, scores, labels)
    assert kept.tolist() == [0, 2, 1]
    # 0.8 exp(-1 / 0.5) = 0.108268
    torch.testing.assert_close(decayed, torch.tensor([0.9, 0.2, 0.108268]))
    assert soft_nms(boxes, scores, labels, score_threshold=0.11)[0].tolist() == [0, 2]
    assert soft_nms(boxes, scores, labels, max_detections=1)[0].tolist() == [0]
    assert soft_nms(boxes, scores, labels, max_detections=0)[0].tolist() == []


@pytest.mark.parametrize(("count", "classes"), [(1, 1), (60, 1), (300, 4), (500, 40)])
@pytest.mark.parametrize("sigma", [0.05, 0.5, 2.0])
def test_equals_the_plain_loop(count: int, classes: int, sigma: float) -> None:
    boxes, scores, labels = candidates(count, classes)
    for limit, threshold in ((100, 0.001), (7, 0.001), (1000, 0.2)):
        kept, decayed = soft_nms(
            boxes,
            scores,
            labels,
            sigma=sigma,
            score_threshold=threshold,
            max_detections=limit,
        )
        rows, values = plain(boxes, scores, labels, sigma, threshold, limit)
        assert kept.tolist() == rows
        torch.testing.assert_close(decayed, torch.tensor(values))


@pytest.mark.parity
def test_equals_effdet() -> None:
    """It keeps scores above the threshold, all of them, and knows no classes but by offset."""
    boxes, scores, labels = candidates(400, 6)
    theirs, expected = batched_soft_nms(
        boxes.double() + 1000, scores.double(), labels, sigma=0.5, score_threshold=0.001
    )
    kept, decayed = soft_nms(boxes, scores, labels, max_detections=len(boxes))
    assert kept.tolist() == theirs.tolist()
    torch.testing.assert_close(decayed, expected, check_dtype=False)


def test_empty_and_flat_boxes() -> None:
    kept, decayed = soft_nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long))
    assert kept.shape == decayed.shape == (0,)
    assert kept.dtype == torch.long
    flat = torch.tensor([[5.0, 5, 5, 5], [5, 5, 5, 5], [9, 9, 3, 3], [0, 0, 10, 10]])
    scores = torch.tensor([0.4, 0.3, 0.2, 0.1])
    kept, decayed = soft_nms(flat, scores, torch.zeros(4, dtype=torch.long))
    assert kept.tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(decayed, scores)


def test_vanishing_sigma_is_hard() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10]] * 3 + [[50, 50, 60, 60]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.1])
    kept, decayed = soft_nms(boxes, scores, torch.zeros(4, dtype=torch.long), sigma=1e-4)
    assert kept.tolist() == [0, 3]
    torch.testing.assert_close(decayed, torch.tensor([0.9, 0.1]))


def test_inputs_stay() -> None:
    inputs = candidates(50, 3)
    before = [x.clone() for x in inputs]
    soft_nms(*inputs)
    assert all(torch.equal(x, y) for x, y in zip(inputs, before, strict=True))

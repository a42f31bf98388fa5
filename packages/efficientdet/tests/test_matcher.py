"""Matching against tables of IoU worked out by hand."""

import pytest
import torch
from torch import Tensor

from efficientdet.anchors import make_anchors
from efficientdet.matcher import MATCH_IOU, assign, match, match_all_pairs
from efficientdet.near_pairs import match_near_pairs


def boxes(*rows: tuple[float, float, float, float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def test_threshold_is_inclusive_and_every_object_gets_an_anchor() -> None:
    anchors = boxes((0, 0, 10, 10), (0, 0, 10, 5), (0, 0, 10, 4), (20, 20, 30, 30), (40, 0, 50, 9))
    objects = boxes((0, 0, 10, 10), (20, 20, 24, 25))
    # IoU          1.0             0.5            0.4            0                 0
    #              0               0              0              20 / 100 = 0.2    0
    positive, owner = match(anchors, objects)
    assert positive.tolist() == [0, 1, 3]
    assert owner.tolist() == [0, 0, 1]


def test_anchor_takes_the_object_that_it_overlaps_most() -> None:
    anchors = boxes((0, 0, 10, 10), (0, 0, 10, 8), (0, 0, 10, 6))
    objects = boxes((0, 0, 10, 10), (0, 0, 10, 6))
    # IoU 1.0 0.8 0.6 and 0.6 0.75 1.0
    positive, owner = match(anchors, objects)
    assert positive.tolist() == [0, 1, 2]
    assert owner.tolist() == [0, 0, 1]


def test_claim_comes_before_a_larger_overlap() -> None:
    """The anchor that is an object's best goes to it even if another overlaps it more."""
    anchors = boxes((0, 0, 10, 10), (0, 0, 12, 10))
    objects = boxes((0, 0, 10, 4), (0, 0, 10, 9))
    # IoU 0.4, 40 / 120 = 0.33 and 0.9, 90 / 120 = 0.75: both claim anchor 0
    positive, owner = match(anchors, objects)
    assert positive.tolist() == [0, 1]
    assert owner.tolist() == [0, 1]


def test_first_of_two_claims_wins() -> None:
    anchors = boxes((0, 0, 10, 10), (50, 50, 60, 60))
    objects = boxes((0, 0, 4, 10), (0, 0, 6, 10))
    # IoU with anchor 0: 0.4 and 0.6; the first wins nevertheless
    positive, owner = match(anchors, objects)
    assert (positive.tolist(), owner.tolist()) == ([0], [0])


def test_first_of_equal_anchors_is_claimed() -> None:
    anchors = boxes((50, 50, 60, 60), (0, 0, 10, 10), (0, 0, 10, 10))
    positive, _ = match(anchors, boxes((0, 0, 4, 10)))
    assert positive.tolist() == [1]


def test_picture_without_objects() -> None:
    positive, owner = match(boxes((0, 0, 10, 10)), boxes())
    assert positive.shape == owner.shape == (0,)
    assert positive.dtype == owner.dtype == torch.long


def test_more_than_100_objects() -> None:
    corner = torch.arange(150, dtype=torch.float32)[:, None] * 20
    anchors = torch.cat((corner, corner, corner + 10, corner + 10), 1)
    positive, owner = match(anchors, anchors.flip(0) + 1)
    assert positive.tolist() == list(range(150))
    assert owner.tolist() == list(range(149, -1, -1))


def test_batch_with_an_empty_picture() -> None:
    anchors = boxes((0, 0, 10, 10), (20, 20, 30, 40))
    objects = [boxes((0, 0, 10, 10)), boxes(), boxes((20, 20, 30, 40), (0, 0, 10, 20))]
    labels = [torch.tensor([7]), torch.zeros(0, dtype=torch.long), torch.tensor([3, 5])]
    targets = assign(anchors, objects, labels)
    assert targets.images.tolist() == [0, 2, 2]
    assert targets.anchors.tolist() == [0, 0, 1]
    assert targets.labels.tolist() == [7, 5, 3]
    # The second: centre y 10 against 5 over a height of 10, and twice the height: log(2).
    expected = [[0.0, 0, 0, 0], [0.5, 0, 0.693147, 0], [0, 0, 0, 0]]
    torch.testing.assert_close(targets.codes, torch.tensor(expected), rtol=0, atol=1e-6)


def test_batch_of_empty_pictures() -> None:
    none = torch.zeros(0, dtype=torch.long)
    targets = assign(boxes((0, 0, 10, 10)), [boxes(), boxes()], [none, none])
    assert [len(column) for column in targets] == [0, 0, 0, 0]
    assert targets.codes.shape == (0, 4)


@pytest.mark.parametrize("count", [0, 1, 40])
@pytest.mark.parametrize("seed", range(4))
def test_few_pairs_give_what_all_pairs_give(count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    anchors = make_anchors((256, 320), range(3, 8), scale=4.0)
    # From 2 pixels to more than the picture, flat and tall, some on whole pixels, some twice.
    sides = 2 * 2 ** (8 * torch.rand(count, 2, generator=generator))
    corner = torch.rand(count, 2, generator=generator) * 300 - 20
    objects = torch.cat([corner, corner + sides], 1)
    objects[::3] = objects[::3].round()
    objects = torch.cat([objects, objects[:5], anchors[[100, 5000]] if count else objects[:0]])
    objects[: count // 8] += 2000  # nothing overlaps these
    objects[3::7, 2] = objects[3::7, 0]  # without a width
    parts = [objects, objects[:0], objects.flip(0), objects[::2]]
    batch = torch.cat(parts), [len(part) for part in parts]
    for of_others in (anchors, anchors + 7, anchors):
        found = match_near_pairs(of_others, *batch, min_iou=MATCH_IOU)
        wanted = match_all_pairs(of_others, *batch)
        for ours, plain in zip(found, wanted, strict=True):
            assert torch.equal(ours, plain)

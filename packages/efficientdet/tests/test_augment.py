"""Scale jitter: where pixels and boxes go."""

import albumentations as A
import numpy as np
import pytest

from efficientdet.data.augment import PAD_COLOUR, Augment

NO_BOXES = np.empty((0, 4), np.float32), np.empty(0, np.int64)


def test_whole_picture_fits_top_left_and_the_rest_is_mean_colour() -> None:
    image = np.full((50, 100, 3), 200, np.uint8)
    box = np.array([[10, 20, 60, 40]], np.float32)
    out, boxes, labels = Augment((64, 64))(image, box, np.array([7]), seed=0)
    # 64 / 100 on both axes: the picture takes 64 x 32.
    assert out.shape == (64, 64, 3)
    assert (out[:32] == 200).all()
    assert (out[32:] == PAD_COLOUR).all()
    np.testing.assert_allclose(boxes, [[6.4, 12.8, 38.4, 25.6]], atol=1e-4)
    assert labels.tolist() == [7]
    assert labels.dtype == np.int64
    assert boxes.dtype == np.float32


def test_boxes_follow_pixels_under_any_jitter() -> None:
    image = np.zeros((120, 160, 3), np.uint8)
    image[30:70, 50:110] = 255
    box = np.array([[50, 30, 110, 70]], np.float32)
    augment = Augment((96, 96), scale=(0.5, 2.0), transforms=[A.HorizontalFlip(p=0.5)])
    for seed in range(40):
        out, boxes, _ = augment(image, box, np.array([0]), seed=seed)
        rows, columns = np.nonzero(out.mean(2) > 180)
        if len(boxes) == 0:
            assert len(rows) < 200  # only a sliver of the box is left
            continue
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(boxes[0], seen, atol=2.0)


def test_seeds_decide() -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    augment = Augment((48, 48), scale=(0.5, 2.0))
    first, again, other = (augment(image, *NO_BOXES, seed=s)[0] for s in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("count", [0, 250])
def test_any_number_of_boxes(count: int) -> None:
    boxes = np.tile(np.array([[4, 4, 20, 20]], np.float32), (count, 1))
    image = np.zeros((32, 32, 3), np.uint8)
    _, out, labels = Augment((32, 32))(image, boxes, np.zeros(count, np.int64), seed=0)
    assert out.shape == (count, 4)
    assert labels.shape == (count,)

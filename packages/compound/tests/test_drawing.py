"""Drawing: shapes have the area and the place that was asked for."""

import cv2
import numpy as np
import pytest

from compound.data.drawing import CLASSES, DrawnObject, background, finish, paint, place

SIZE = 128


def placed(rng: np.random.Generator, label: int, side: float) -> DrawnObject:
    item = place(rng, SIZE, label=label, side=(side, side), centre=(0.5, 0.5), min_in_frame=0.95)
    assert item is not None
    return item


@pytest.mark.parametrize("label", range(len(CLASSES)))
def test_area_is_the_sides_square_whatever_the_class(label: int) -> None:
    rng = np.random.default_rng(label)
    for _ in range(5):
        item = placed(rng, label, 48)
        assert item.label == label
        # OpenCV fills the outline too, half a pixel more all round: 4 * 48 / 2 for the square.
        assert 0 < item.area - 48**2 < 48**2 / 10
        x, y, w, h = item.box_xywh
        assert 0 < x < x + w < SIZE
        assert 0 < y < y + h < SIZE


def test_only_the_ring_has_a_hole() -> None:
    rng = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        solid = (placed(rng, label, 48).mask > 127).astype(np.uint8)
        contours, _ = cv2.findContours(solid, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        assert len(contours) == (2 if name == "ring" else 1)


def test_what_does_not_fit_is_not_placed() -> None:
    rng = np.random.default_rng(0)
    outside = place(rng, SIZE, label=0, side=(48, 48), centre=(1.0, 1.0), min_in_frame=0.5)
    assert outside is None  # a quarter of a circle round the corner


def test_paint_keeps_to_the_mask_and_stands_out() -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        item = placed(rng, seed % len(CLASSES), 48)
        canvas = np.full((SIZE, SIZE, 3), 128, np.float32)
        paint(rng, canvas, item)
        assert (canvas[item.mask == 0] == 128).all()
        assert np.abs(canvas[item.mask == 255] - 128).max(axis=1).mean() > 20


def test_backgrounds_are_never_plain() -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        picture = finish(rng, background(rng, SIZE))
        assert (picture.shape, picture.dtype) == ((SIZE, SIZE, 3), np.uint8)
        assert picture.std() > 5

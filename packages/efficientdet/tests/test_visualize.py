"""Drawn boxes can be seen and read at any size of a picture."""

import numpy as np
import pytest
import torch

from compound.visualize import colour
from efficientdet import Detections
from efficientdet.visualize import draw

NAMES = ("cat", "dog")


def found(*boxes: tuple[float, float, float, float]) -> Detections:
    count = len(boxes)
    return Detections(
        torch.tensor(boxes).reshape(-1, 4),
        torch.linspace(0.9, 0.5, count),
        torch.arange(count) % 2,
    )


def test_a_box_has_the_colour_of_its_class_and_the_inside_stays() -> None:
    picture = np.full((240, 320, 3), 50, np.uint8)
    drawn = draw(picture, found((40, 60, 200, 180)), NAMES)
    assert (picture == 50).all()  # a copy
    for y, x in ((179, 100), (100, 41), (100, 199)):
        assert tuple(drawn[y, x]) == colour(0)
    assert (drawn[80:170, 60:190] == 50).all()
    plate = drawn[44:59, 41:90].reshape(-1, 3)
    assert (plate == colour(0)).all(1).mean() > 0.4
    assert (plate == 0).all(1).any() or (plate == 255).all(1).any()  # the letters


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (8, 8), (2000, 3000)])
def test_any_size(shape: tuple[int, int]) -> None:
    height, width = shape
    drawn = draw(np.zeros((*shape, 3), np.uint8), found((0, 0, width, height)), NAMES)
    assert drawn.shape == (*shape, 3)
    assert drawn.any()


def test_neighbouring_classes_differ() -> None:
    for label in range(90):
        difference = np.subtract(colour(label), colour(label + 1))
        assert np.abs(difference).max() > 60, label

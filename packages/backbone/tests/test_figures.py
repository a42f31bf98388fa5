"""The embedded classification data set."""

import numpy as np
import pytest

from backbone.classification.data.figures import shapes_splits
from compound.data.drawing import CLASSES
from compound.errors import UserError


def test_pictures_follow_from_the_seed_alone() -> None:
    small, large = (shapes_splits(num_train=n, num_val=3, picture_size=48, seed=1) for n in (5, 15))
    for i in range(5):
        assert np.array_equal(small["train"].source(i).whole(), large["train"].source(i).whole())
    assert not np.array_equal(small["train"].source(0).whole(), small["val"].source(0).whole())
    other = shapes_splits(num_train=5, num_val=3, picture_size=48, seed=2)
    assert not np.array_equal(small["train"].source(0).whole(), other["train"].source(0).whole())


def test_classes_are_balanced() -> None:
    train = shapes_splits(num_train=21, num_val=1, picture_size=32, seed=0)["train"]
    assert train.class_names == CLASSES
    assert np.bincount(train.labels).tolist() == [3] * 7
    assert train.source(0).whole().shape == (32, 32, 3)
    assert train.source(0).whole().dtype == np.uint8


@pytest.mark.parametrize("bad", [{"num_train": 0}, {"picture_size": 16}, {"seed": -1}])
def test_mistakes(bad: dict[str, int]) -> None:
    (name,) = bad
    with pytest.raises(UserError, match=rf"data\.read\.{name}="):
        shapes_splits(**({"num_train": 1, "num_val": 1, "picture_size": 32, "seed": 0} | bad))

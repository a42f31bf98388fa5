"""What is held out of a training split."""

import numpy as np
import pytest

from backbone.classification.data.index import ArrayIndex, hold_out
from compound.errors import UserError


def index_of(*labels: int) -> ArrayIndex:
    pictures = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(3, 3)
    return ArrayIndex(pictures, np.array(labels, np.int64), ("a", "b", "c"))


def test_held_out_pictures_keep_their_labels_and_are_gone_from_the_training() -> None:
    labels = [0, 1] * 10 + [2]
    train, val = hold_out(index_of(*labels), 0.3, seed=0)
    # round(0.3 * 10) = 3 of a and of b, none of c, which has one picture only
    assert sorted(val.labels.tolist()) == [0, 0, 0, 1, 1, 1]
    seen = [
        int(part.source(i).whole()[0, 0, 0])
        for part in (train, val)
        for i in range(len(part.labels))
    ]
    assert sorted(seen) == list(range(21))
    assert [labels[i] for i in seen] == [*train.labels, *val.labels]
    assert train.class_names == val.class_names == ("a", "b", "c")


@pytest.mark.parametrize(("fraction", "held"), [(0.01, 1), (0.5, 2), (0.99, 3)])
def test_both_sides_get_at_least_one_of_a_class(fraction: float, held: int) -> None:
    train, val = hold_out(index_of(0, 0, 0, 0), fraction, seed=0)
    assert (len(train.labels), len(val.labels)) == (4 - held, held)


def test_the_seed_decides() -> None:
    index = index_of(*[0] * 50)
    first, again, other = (hold_out(index, 0.2, seed=seed)[1] for seed in (0, 0, 1))
    assert isinstance(first, ArrayIndex)
    assert isinstance(again, ArrayIndex)
    assert isinstance(other, ArrayIndex)
    assert np.array_equal(first.pictures, again.pictures)
    assert not np.array_equal(first.pictures, other.pictures)


def test_nothing_to_hold_out() -> None:
    with pytest.raises(UserError, match="no class has two pictures"):
        hold_out(index_of(0, 1, 2), 0.1, seed=0)

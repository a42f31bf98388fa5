"""Scenes to analyse: one to compute by hand, and drawn ones."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from efficientdet.data.index import AnnotationIndex

Objects = list[tuple[int, int, int, bool]]
Rows = list[tuple[int, float, float, int]]


def _index_of(objects: Objects) -> AnnotationIndex:
    """Two pictures, ids 3 and 8, with squares of 10 pixels at ``(picture, x, label, crowd)``.

    Squares that are d apart have an IoU of ``(10 - d) / (10 + d)``.
    """
    pictures, x, labels, crowd = np.array(objects, int).reshape(-1, 4).T
    return AnnotationIndex(
        image_dir=Path(),
        file_names=np.array(["a", "b"]),
        image_ids=np.array([3, 8]),
        sizes=np.full((2, 2), 300, np.int32),
        offsets=np.searchsorted(pictures, [0, 1, 2]),
        boxes=np.stack([x, np.zeros_like(x), x + 10, np.full_like(x, 10)], 1).astype(float),
        labels=labels,
        crowd=crowd.astype(bool),
        areas=np.full(len(x), 100.0),
        class_names=("cat", "dog"),
        category_ids=np.array([7, 2]),
        repairs={},
    )


def _rows_of(found: Rows) -> np.ndarray:
    """Squares of 10 pixels at ``(image id, x, score, category id)``."""
    rows = [[image, x, 0, 10, 10, score, category] for image, x, score, category in found]
    return np.array(rows, float).reshape(-1, 7)


def _drawn(seed: int) -> tuple[AnnotationIndex, np.ndarray]:
    """40 pictures of crowded boxes in 5 of 6 classes; near them detections, others anywhere."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 12, 40)
    corners = rng.uniform(0, 80, (counts.sum(), 2))
    boxes = np.hstack((corners, corners + rng.uniform(8, 40, corners.shape)))
    crowd = rng.random(len(boxes)) < 0.15
    crowd[: counts[:2].sum()] = True  # nothing but crowds in the first two
    labels = rng.integers(5, size=len(boxes))
    index = AnnotationIndex(
        image_dir=Path(),
        file_names=np.arange(40).astype(str),
        image_ids=np.arange(40) * 3 + 1,
        sizes=np.full((40, 2), 120, np.int32),
        offsets=np.concatenate([[0], counts.cumsum()]),
        boxes=boxes,
        labels=labels,
        crowd=crowd,
        areas=(boxes[:, 2:] - boxes[:, :2]).prod(1),
        class_names=tuple("abcdef"),
        category_ids=np.array([4, 1, 9, 2, 8, 3]),
        repairs={},
    )
    near = np.repeat(np.arange(len(boxes)), rng.integers(0, 4, len(boxes)))
    moved = boxes[near] + rng.normal(0, 5, (len(near), 4))
    anywhere = rng.uniform(0, 80, (80, 2))
    moved = np.concatenate([moved, np.hstack((anywhere, anywhere + 30))])
    owners = np.concatenate(
        [np.repeat(index.image_ids, counts)[near], rng.choice(index.image_ids, 80)]
    )
    taken_for = np.where(rng.random(len(near)) < 0.7, labels[near], rng.integers(6, size=len(near)))
    taken_for = np.concatenate([taken_for, rng.integers(6, size=80)])
    scores = rng.permutation(len(moved)) / len(moved)
    sides = (moved[:, 2:] - moved[:, :2]).clip(min=1)
    columns = (owners, *moved[:, :2].T, *sides.T, scores, index.category_ids[taken_for])
    return index, np.stack(columns, 1)


@pytest.fixture
def index_of() -> Callable[[Objects], AnnotationIndex]:
    return _index_of


@pytest.fixture
def rows_of() -> Callable[[Rows], np.ndarray]:
    return _rows_of


@pytest.fixture
def drawn() -> Callable[[int], tuple[AnnotationIndex, np.ndarray]]:
    return _drawn


@pytest.fixture
def scene() -> tuple[AnnotationIndex, np.ndarray]:
    """One error of each kind, and two objects missed."""
    index = _index_of(
        [(0, 0, 0, 0), (0, 30, 0, 0), (0, 60, 1, 0), (0, 90, 0, 0), (1, 0, 0, 0)]  # type: ignore
    )
    rows = _rows_of(
        [
            (3, 61, 0.6, 7),  # a cat where the dog is: IoU 9 / 11
            (3, 0, 0.9, 7),  # right
            (3, 1, 0.8, 7),  # the same again: 9 / 11
            (3, 200, 0.95, 7),  # nothing there
            (3, 35, 0.7, 7),  # the cat at 30, but beside it: 5 / 15
            (3, 65, 0.5, 7),  # a cat, and beside the dog: 5 / 15
        ]
    )
    return index, rows

"""Mosaic, mixup and copy-paste: whose pixels and whose boxes."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from compound.data.sampler import Draw
from efficientdet.data.augment import Augment
from efficientdet.data.dataset import Batch, DetectionDataset, collate
from efficientdet.data.index import AnnotationIndex
from efficientdet.data.mixing import MAX_HIDDEN, Mixing, copy_paste, mixup, mosaic
from efficientdet.data.operations import Picture


def filled(value: int, shape: tuple[int, int], *boxes: list[float], label: int = 0) -> Picture:
    image = np.full((*shape, 3), value, np.uint8)
    array = np.array(boxes, np.float64).reshape(-1, 4)
    return Picture(image, array, np.full(len(array), label))


@pytest.mark.parametrize("shape", [(40, 300), (300, 40), (90, 90), (7, 9)])
def test_mosaic_is_filled_by_all_four(shape: tuple[int, int]) -> None:
    pictures = [filled(value, shape) for value in (10, 20, 30, 40)]
    centres = set()
    for seed in range(30):
        out = mosaic(pictures, (96, 128), (0.1, 2.0), np.random.default_rng(seed))
        assert out.image.shape == (96, 128, 3)
        canvas = out.image[..., 0]
        x, y = (canvas[0] == 10).sum(), (canvas[:, 0] == 10).sum()
        assert 32 <= x <= 96  # 0.25 and 0.75 of 128
        assert 24 <= y <= 72
        quarters = (canvas[:y, :x], canvas[:y, x:], canvas[y:, :x], canvas[y:, x:])
        assert [np.unique(q).tolist() for q in quarters] == [[10], [20], [30], [40]]
        centres.add((x, y))
    assert len(centres) > 20


@pytest.mark.parametrize("place", range(4))
def test_boxes_follow_pixels_into_the_mosaic(place: int) -> None:
    pictures = [filled(0, (120, 160)) for _ in range(4)]
    pictures[place] = filled(0, (120, 160), [50, 30, 110, 70], label=place)
    pictures[place].image[30:70, 50:110] = 255
    found = 0
    for seed in range(20):
        out = mosaic(pictures, (96, 96), (0.5, 1.0), np.random.default_rng(seed))
        rows, columns = np.nonzero(out.image[..., 0] > 127)
        if len(out.boxes) == 0 or (out.boxes[0, 2:] - out.boxes[0, :2]).min() < 2:
            assert len(rows) < 200  # a sliver, if anything
            continue
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(out.boxes, [seen], atol=1.5)
        assert out.labels.tolist() == [place]
        found += 1
    assert found > 10


def test_mosaic_shows_a_picture_as_large_as_the_jitter_does() -> None:
    # 64 x 64 into 128 x 128: factors from 1 to 2 magnify 2 to 4 times.
    picture = filled(0, (64, 64), [0, 0, 64, 64], [31, 31, 33, 33])
    sides = []
    for seed in range(200):
        out = mosaic([picture] * 4, (128, 128), (1.0, 2.0), np.random.default_rng(seed))
        extent = out.boxes[:, 2:] - out.boxes[:, :2]
        sides.extend(extent[(extent < 16).all(axis=1)].max(axis=1))
    assert 3.5 < min(side for side in sides if side > 3.5) < 4.3  # 2 px * 2
    assert 7 < max(sides) < 8.5  # 2 px * 4
    # Too small a factor fills the quarters nevertheless, and a square stays one.
    for seed in range(20):
        out = mosaic([picture] * 4, (128, 128), (0.1, 0.1), np.random.default_rng(seed))
        extent = out.boxes[:, 2:] - out.boxes[:, :2]
        whole = extent[((extent < 4) & (extent > 0.6)).all(axis=1)]
        square = np.abs(whole[:, 0] / whole[:, 1] - 1) < 0.05
        assert square.mean() > 0.5  # the others are cut at a border


def test_mixup_shows_both() -> None:
    first, second = filled(200, (4, 4), [0, 0, 2, 2]), filled(100, (4, 4), [1, 1, 3, 3], label=5)
    out = mixup(first, second, 0.75)
    assert (out.image == 175).all()  # 0.75 * 200 + 0.25 * 100
    assert out.boxes.tolist() == [[0, 0, 2, 2], [1, 1, 3, 3]]
    assert out.labels.tolist() == [0, 5]


def test_pasted_objects_bring_pixels_and_hide_boxes() -> None:
    picture = filled(0, (60, 80), [10, 10, 22, 20], [40, 30, 48, 50], [70, 2, 76, 8])
    other = filled(9, (50, 50), [5, 5, 25, 30.5], [20, 20, 45, 28], label=1)
    other.image[5:31, 5:25] = 100
    other.image[20:28, 25:45] = 200
    hidden_ones = 0
    for seed in range(60):
        out = copy_paste(picture, other, np.random.default_rng(seed))
        covered = out.image[..., 0] > 0
        kept = [box for box, label in zip(out.boxes.tolist(), out.labels, strict=True) if not label]
        for box in picture.boxes.tolist():
            left, top, right, bottom = (int(side) for side in box)
            hidden = covered[top:bottom, left:right].mean()
            assert (box in kept) == (hidden <= MAX_HIDDEN)
            hidden_ones += hidden > MAX_HIDDEN
        pasted = out.boxes[out.labels == 1]
        assert 1 <= len(pasted) <= 2
        assert covered.any()
        for box in pasted:
            left, top, right, bottom = box.astype(int)
            assert covered[top:bottom, left:right].all()
        assert (picture.image == 0).all()
    assert hidden_ones > 5


def test_pasted_objects_that_others_hide_have_no_box() -> None:
    other = filled(0, (50, 50), [0, 0, 20, 20], [20, 20, 40, 40])
    other.image[:20, :20], other.image[20:40, 20:40] = 100, 200
    other = other._replace(labels=np.array([100, 200]))
    hidden_ones = 0
    for seed in range(300):
        out = copy_paste(filled(0, (40, 40)), other, np.random.default_rng(seed))
        for value in (100, 200):
            share = (out.image[..., 0] == value).sum() / 400
            assert (value in out.labels) == (share >= 1 - MAX_HIDDEN)
            hidden_ones += 0 < share < 1 - MAX_HIDDEN
    assert hidden_ones > 5


def test_pasted_objects_are_at_most_half_as_large_as_the_picture() -> None:
    other = filled(50, (400, 400), [0, 0, 400, 200])
    out = copy_paste(filled(0, (60, 80)), other, np.random.default_rng(0))
    # 400 x 200 into 40 x 30: 0.1.
    np.testing.assert_allclose(out.boxes[0, 2:] - out.boxes[0, :2], [40, 20])
    assert (out.image[..., 0] > 0).sum() == 40 * 20


def test_nothing_to_paste() -> None:
    picture = filled(0, (8, 8), [1, 1, 2, 2])
    assert copy_paste(picture, filled(1, (8, 8)), np.random.default_rng(0)) is picture


def loaded(index: AnnotationIndex, num_workers: int, epoch: int = 0, **mixing: Any) -> list[Batch]:
    augment = Augment((64, 96), scale=(0.5, 1.5), transforms=[A.HorizontalFlip(p=0.5)])
    dataset = DetectionDataset(index, augment, mixing=Mixing(**mixing))
    draws: Any = [Draw(i, 100 + i, epoch) for i in range(len(index))]
    return list(DataLoader(dataset, 4, sampler=draws, num_workers=num_workers, collate_fn=collate))


EVERYTHING = {"mosaic": 0.5, "mixup": 0.5, "copy_paste": 0.5}


def test_mixing_repeats_with_any_number_of_workers(shapes: dict[str, AnnotationIndex]) -> None:
    alone, with_workers = (loaded(shapes["train"], n, **EVERYTHING) for n in (0, 2))
    plain = loaded(shapes["train"], 0)
    for a, b, c in zip(alone, with_workers, plain, strict=True):
        assert torch.equal(a.images, b.images)
        assert not torch.equal(a.images, c.images)
        assert torch.equal(a.image_ids, c.image_ids)
        for boxes, again, labels in zip(a.boxes, b.boxes, a.labels, strict=True):
            assert torch.equal(boxes, again)
            assert len(boxes) == len(labels)
            assert bool((boxes >= 0).all())
            assert bool((boxes <= torch.tensor([96, 64, 96, 64])).all())
    mixed, single = (sum(len(b) for a in run for b in a.boxes) for run in (alone, plain))
    assert mixed > single


def test_closed_epochs_are_as_without_mixing(shapes: dict[str, AnnotationIndex]) -> None:
    plain = loaded(shapes["train"], 0)
    last_open = loaded(shapes["train"], 0, epoch=6, closed_from=7, **EVERYTHING)
    closed = loaded(shapes["train"], 0, epoch=7, closed_from=7, **EVERYTHING)
    assert all(torch.equal(a.images, b.images) for a, b in zip(plain, closed, strict=True))
    assert not any(torch.equal(a.images, b.images) for a, b in zip(plain, last_open, strict=True))


@pytest.mark.parametrize("kind", ["mosaic", "mixup", "copy_paste"])
def test_unreadable_partners_are_named_and_bring_no_boxes(
    shapes: dict[str, AnnotationIndex], tmp_path: Path, kind: str
) -> None:
    index = shapes["train"]
    shutil.copytree(index.image_dir, tmp_path / "pictures")
    index = replace(index, image_dir=tmp_path / "pictures")
    broken = [tmp_path / "pictures" / str(name) for name in index.file_names[1:]]
    for path in broken:
        path.write_bytes(b"no picture")
    # The objects of the only readable picture are of a class of their own.
    labels = np.zeros_like(index.labels)
    labels[index.rows(0)] = 1
    index = replace(index, labels=labels)
    augment = Augment((64, 64))
    dataset = DetectionDataset(index, augment, mixing=Mixing(**{kind: 1.0}))
    told: set[str] = set()
    for seed in range(20):
        sample = dataset[Draw(0, seed)]
        told.update(sample.unreadable)
        assert set(sample.labels.tolist()) <= {1}
    assert len(told) > 5
    assert told <= {f"{path} cannot be decoded" for path in broken}

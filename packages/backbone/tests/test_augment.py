"""Transforms: what they show, and that all their randomness follows from one seed."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as TF

from backbone.data.augment import EvalTransform, TrainTransform, magnitude, seeded
from backbone.errors import UserError

NOISE = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)


def test_centre_crop_is_the_official_one() -> None:
    # int(0.875 * 60) = 52 pixels, from (60 - 52 + 1) // 2 = 4 down and (90 - 52 + 1) // 2 = 19
    expected = TF.resized_crop(
        Image.fromarray(NOISE), 4, 19, 52, 52, [32, 32], TF.InterpolationMode.BICUBIC
    )
    found = EvalTransform(32, interpolation="bicubic", crop=0.875)(NOISE, seed=0)
    assert np.array_equal(found, np.asarray(expected))


def test_odd_pixel_lies_above_and_to_the_left() -> None:
    picture = np.arange(5, dtype=np.uint8)[:, None, None].repeat(5, 1).repeat(3, 2)
    # int(0.5 * 5) = 2 of 5 rows, from (5 - 2 + 1) // 2 = 2
    found = EvalTransform(2, interpolation="bilinear", crop=0.5)(picture, seed=0)
    assert found[:, 0, 0].tolist() == [2, 3]


def test_no_crop_squashes() -> None:
    found = EvalTransform(20, interpolation="bilinear", crop=None)(NOISE, seed=0)
    expected = Image.fromarray(NOISE).resize((20, 20), Image.Resampling.BILINEAR)
    assert np.array_equal(found, np.asarray(expected))


@pytest.mark.real
def test_legacy_preprocessing_sees_what_the_official_code_sees(compound_data: Path) -> None:
    """The same place at the same scale; Pillow's bicubic is another filter than TensorFlow's."""
    with np.load(compound_data / "expected/tf/preprocessing/crop_180x240_to_224.npz") as case:
        expected = case["v1_legacy_on_jpeg"]
        picture = case["jpeg_decoded"]
    if expected.min() < 0:  # normalised
        mean, std = np.array([0.485, 0.456, 0.406]) * 255, np.array([0.229, 0.224, 0.225]) * 255
        expected = expected * std + mean
    found = EvalTransform(224, interpolation="bicubic", crop=224 / 256)(picture, seed=0)
    assert np.abs(found - expected).mean() < 3
    off = EvalTransform(224, interpolation="bicubic", crop=0.95)(picture, seed=0)
    assert np.abs(off - expected).mean() > 6


def train(policy: str | None = None, **changes: object) -> TrainTransform:
    arguments = {"interpolation": "bicubic", "policy": policy} | changes
    return TrainTransform(32, **arguments)  # type: ignore[arg-type]


def test_random_crop_is_torchvisions() -> None:
    with seeded(5):
        top, left, height, width = RandomResizedCrop.get_params(
            Image.fromarray(NOISE), [0.08, 1.0], [3 / 4, 4 / 3]
        )
    expected = TF.resized_crop(
        Image.fromarray(NOISE), top, left, height, width, [32, 32], TF.InterpolationMode.BICUBIC
    )
    assert np.array_equal(train(flip=0.0)(NOISE, seed=5), np.asarray(expected))


@pytest.mark.parametrize(
    "policy", [None, "v0", "rand-m10-n2", "rand-m9-mstd0.5", "original", "augmix-m3"]
)
def test_randomness_follows_from_the_seed(policy: str | None) -> None:
    transform = train(policy)
    seen = {transform(NOISE, seed=seed).tobytes() for seed in range(8)}
    assert len(seen) == 8
    before = random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002
    assert {transform(NOISE, seed=seed).tobytes() for seed in range(8)} == seen
    after = random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002
    assert all(a != b for a, b in zip(before, after, strict=True))


def test_generators_are_put_back() -> None:
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    with seeded(3):
        drawn = random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002
    with seeded(3):
        assert drawn == (random.random(), np.random.rand(), torch.rand(1).item())  # noqa: NPY002
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])


def test_whole_picture_without_flip_is_the_picture() -> None:
    square = NOISE[:32, :32]
    transform = train(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
    assert np.array_equal(transform(square, seed=0), square)
    flipped = train(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=1.0)
    assert np.array_equal(flipped(square, seed=0), square[:, ::-1])


def test_training_pictures_may_be_squashed() -> None:
    found = TrainTransform(20, interpolation="bilinear", scale=None, flip=0.0)(NOISE, seed=0)
    expected = Image.fromarray(NOISE).resize((20, 20), Image.Resampling.BILINEAR)
    assert np.array_equal(found, np.asarray(expected))


def test_cutout_fills_a_square_around_a_random_pixel() -> None:
    transform = TrainTransform(32, interpolation="bilinear", scale=None, flip=0.0, cutout=0.25)
    black = np.zeros((32, 32, 3), np.uint8)
    sides = set()
    for seed in range(40):
        found = transform(black, seed=seed)
        rows, columns = (found.max(axis) > 0 for axis in ((1, 2), (0, 2)))
        hole = found[rows][:, columns]
        # All of it is noise of the brighter half: 0..1 where pixels are -1..1.
        assert hole.min() >= 128
        assert hole.std() > 20
        sides |= {rows.sum(), columns.sum()}
        assert found.sum() == hole.sum(dtype=np.int64)
    # A quarter of 32 to either side of the pixel, unless the picture ends before.
    assert max(sides) == 16
    assert min(sides) >= 8


def test_magnitudes_need_not_be_whole() -> None:
    def operations(policy: str, **settings: float) -> list[float]:
        transform = TrainTransform(8, interpolation="bilinear", policy=policy, **settings)
        return [operation.magnitude for operation in transform.policy.ops]

    assert set(operations("rand-m9-n2")) == {9} == {magnitude("rand-m9-n2")}
    assert set(operations("rand-m9-n2", magnitude=6.67)) == {6.67}
    assert magnitude("v0") == magnitude("augmix-m3") == magnitude(None) == 0


def test_crops_have_the_asked_area() -> None:
    # A picture whose red is its column: the spread of red tells the crop's width.
    ramp = np.arange(256, dtype=np.uint8)[None, :, None].repeat(256, 0).repeat(3, 2)
    transform = train(scale=(0.25, 0.25), ratio=(1.0, 1.0), flip=0.0)
    for seed in range(5):
        row = transform(ramp, seed=seed)[0, :, 0].astype(int)
        assert 120 <= row[-1] - row[0] <= 128  # half of the width, less half a pixel at each end


@pytest.mark.parametrize("policy", ["v9", "rand-q", "rand-m10-x3y", "rand-tall"])
def test_unknown_policy(policy: str) -> None:
    with pytest.raises(UserError, match=rf"data\.policy={policy} is unknown; AutoAugment's are v0"):
        train(policy)

"""Transforms: what they show, and that all their randomness follows from one seed."""

import pickle
import random
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as TF

from backbone.classification.data.augment import EvalTransform, TrainTransform, magnitude, seeded
from backbone.classification.data.warps import WARPS
from compound.data.images import Box, Decoded, Jpeg, open_picture
from compound.errors import UserError

NOISE = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
# Both round between the two axes, of which Pillow takes now the one first, now the other.
RESIZING_TOLERANCE = 2


def test_centre_crop_is_the_official_one() -> None:
    # int(0.875 * 60) = 52 pixels, from (60 - 52 + 1) // 2 = 4 down and (90 - 52 + 1) // 2 = 19
    expected = TF.resized_crop(
        Image.fromarray(NOISE), 4, 19, 52, 52, [32, 32], TF.InterpolationMode.BICUBIC
    )
    found = EvalTransform(32, interpolation="bicubic", crop=0.875)(Decoded(NOISE), seed=0)
    assert np.array_equal(found, np.asarray(expected))


def test_odd_pixel_lies_above_and_to_the_left() -> None:
    picture = np.arange(5, dtype=np.uint8)[:, None, None].repeat(5, 1).repeat(3, 2)
    # int(0.5 * 5) = 2 of 5 rows, from (5 - 2 + 1) // 2 = 2
    found = EvalTransform(2, interpolation="bilinear", crop=0.5)(Decoded(picture), seed=0)
    assert found[:, 0, 0].tolist() == [2, 3]


def test_no_crop_squashes() -> None:
    found = EvalTransform(20, interpolation="bilinear", crop=None)(Decoded(NOISE), seed=0)
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
    found = EvalTransform(224, interpolation="bicubic", crop=224 / 256)(Decoded(picture), seed=0)
    assert np.abs(found - expected).mean() < 3
    off = EvalTransform(224, interpolation="bicubic", crop=0.95)(Decoded(picture), seed=0)
    assert np.abs(off - expected).mean() > 6


def train(policy: str | None = None, **changes: object) -> TrainTransform:
    arguments = {"interpolation": "bicubic", "policy": policy} | changes
    return TrainTransform(32, **arguments)  # type: ignore[arg-type]


def close(found: np.ndarray, expected: np.ndarray | Image.Image) -> bool:
    difference = np.abs(found.astype(int) - np.asarray(expected).astype(int))
    return bool(difference.max() <= RESIZING_TOLERANCE)


class Recorded:
    """A picture that notes what was taken of it."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.decoded = Decoded(pixels)
        self.size = self.decoded.size
        self.boxes: list[Box] = []

    def whole(self) -> np.ndarray:
        return self.decoded.whole()

    def window(self, box: Box, least: tuple[int, int]) -> np.ndarray:
        self.boxes.append(box)
        return self.decoded.window(box, least)


def boxes_of(transform: TrainTransform, shape: tuple[int, int], count: int) -> np.ndarray:
    source = Recorded(np.zeros((*shape, 3), np.uint8))
    for seed in range(count):
        transform(source, seed=seed)
    return np.array(source.boxes)


def test_random_crops_are_as_torchvisions() -> None:
    """Of the same spread: at no quantile of any edge do they differ by more than chance would."""
    count, (height, width) = 3000, (375, 500)
    found = boxes_of(train(), (height, width), count)
    picture = Image.new("L", (width, height))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [
            RandomResizedCrop.get_params(picture, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(count)
        ]
    expected = np.array([(x, y, x + w, y + h) for y, x, h, w in drawn])
    for ours, theirs in (
        *zip(found.T, expected.T, strict=True),
        ((found[:, 2] - found[:, 0]), (expected[:, 2] - expected[:, 0])),
        ((found[:, 3] - found[:, 1]), (expected[:, 3] - expected[:, 1])),
    ):
        values = np.arange(501)
        shares = [
            np.searchsorted(np.sort(edges), values, side="right") / count
            for edges in (ours, theirs)
        ]
        # Kolmogorov and Smirnov: 1.95 * sqrt(2 / 3000) is passed in one of a thousand cases.
        assert np.abs(shares[0] - shares[1]).max() < 1.95 * (2 / count) ** 0.5


@pytest.mark.parametrize("shape", [(10, 200), (200, 10)])
def test_picture_in_which_no_crop_fits(shape: tuple[int, int]) -> None:
    top, left, height, width = RandomResizedCrop.get_params(
        Image.new("L", shape[::-1]), [0.9, 1.0], [3 / 4, 4 / 3]
    )
    expected = left, top, left + width, top + height
    assert boxes_of(train(scale=(0.9, 1.0)), shape, 1).tolist() == [list(expected)]


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [20, 32, 75, 140])
def test_training_resizes_as_pillow_does(interpolation: str, size: int) -> None:
    transform = TrainTransform(size, interpolation=interpolation, flip=0.0)  # type: ignore[arg-type]
    resample = Image.Resampling[interpolation.upper()]
    for seed in range(8):
        for contrast, most, mean in ((0.5, RESIZING_TOLERANCE, 0.5), (1.0, 255, 1.0)):
            # At full contrast overshoots are cut off, and after which axis is another matter.
            pixels = (contrast * NOISE + 255 * (1 - contrast) / 2).astype(np.uint8)
            source = Recorded(pixels)
            found = transform(source, seed=seed).astype(int)
            cut = Image.fromarray(pixels).crop(source.boxes[-1])
            difference = np.abs(found - np.asarray(cut.resize((size, size), resample)))
            assert difference.max() <= most
            assert difference.mean() <= mean


@pytest.mark.parametrize("policy", ["v0", "rand-m10-n2", "augmix-m3"])
def test_policies_warp_quickly_and_reach_other_processes(policy: str) -> None:
    transform = train(policy)
    built = transform.policy
    lists = [built.ops] if hasattr(built, "ops") else built.policy
    functions = {operation.aug_fn for operations in lists for operation in operations}
    assert functions & set(WARPS.values())
    assert not functions & set(WARPS)
    sent = pickle.loads(pickle.dumps(transform))
    assert np.array_equal(sent(Decoded(NOISE), seed=3), transform(Decoded(NOISE), seed=3))


@pytest.mark.parametrize(
    "policy", [None, "v0", "rand-m10-n2", "rand-m9-mstd0.5", "original", "augmix-m3"]
)
def test_randomness_follows_from_the_seed(policy: str | None) -> None:
    transform = train(policy)
    seen = {transform(Decoded(NOISE), seed=seed).tobytes() for seed in range(8)}
    assert len(seen) == 8
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    assert {transform(Decoded(NOISE), seed=seed).tobytes() for seed in range(8)} == seen
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])


def test_generators_are_seeded_and_put_back() -> None:
    state = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    with seeded(3):
        drawn = random.random(), np.random.rand()  # noqa: NPY002
    with seeded(3):
        assert drawn == (random.random(), np.random.rand())  # noqa: NPY002
    assert random.getstate() == state[0]
    assert np.array_equal(np.random.get_state()[1], state[1])  # noqa: NPY002


def photograph(shape: tuple[int, int]) -> np.ndarray:
    """Return noise whose amplitude falls with frequency, as in photographs."""
    height, width = shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))[..., None]
    white = np.random.default_rng(0).standard_normal((*shape, 3))
    spectrum = np.fft.rfft2(white, axes=(0, 1)) / np.maximum(frequency, 1 / width)
    noise = np.fft.irfft2(spectrum, shape, axes=(0, 1))
    return (128 + 50 * noise / noise.std()).clip(0, 255).astype(np.uint8)


# 500 x 375 pixels may be decoded at 1/2 for 128, at 1/4 for 90 and at 1/8 for 40.
@pytest.mark.parametrize(("size", "mean"), [(128, 3.0), (90, 4.0), (40, 3.5), (200, 0.05)])
def test_decoding_at_reduced_scale_changes_little(tmp_path: Path, size: int, mean: float) -> None:
    """Of 255, in the mean, where real photographs have 1.1 to 2.3, as here colour is noise, too."""
    path = tmp_path / "a.jpg"
    Image.fromarray(photograph((376, 496))).save(path, quality=90)
    source = open_picture(path)
    assert isinstance(source, Jpeg)
    transform = TrainTransform(size, interpolation="bicubic", scale=None)
    found = transform(source, seed=0).astype(int)
    expected = transform(Decoded(source.whole()), seed=0)
    assert np.abs(found - expected).mean() < mean


@pytest.mark.parametrize("policy", ["rand-m1-n2-p1", "rand-m10-n2-inc1-p1", "v0", "augmix-m1"])
def test_policies_act_at_any_magnitude(policy: str) -> None:
    """Also where timm's posterisation leaves no bit, which Pillow refuses."""
    transform = train(policy)
    for seed in range(60):
        assert transform(Decoded(NOISE), seed=seed).shape == (32, 32, 3)


def test_whole_picture_without_flip_is_the_picture() -> None:
    square = NOISE[:32, :32]
    transform = train(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
    assert np.array_equal(transform(Decoded(square), seed=0), square)
    flipped = train(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=1.0)
    assert np.array_equal(flipped(Decoded(square), seed=0), square[:, ::-1])


def test_training_pictures_may_be_squashed() -> None:
    transform = TrainTransform(20, interpolation="bilinear", scale=None, flip=0.0)
    expected = Image.fromarray(NOISE).resize((20, 20), Image.Resampling.BILINEAR)
    assert close(transform(Decoded(NOISE), seed=0), expected)


def test_cutout_fills_a_square_around_a_random_pixel() -> None:
    transform = TrainTransform(32, interpolation="bilinear", scale=None, flip=0.0, cutout=0.25)
    black = np.zeros((32, 32, 3), np.uint8)
    sides = set()
    for seed in range(40):
        found = transform(Decoded(black), seed=seed)
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
        row = transform(Decoded(ramp), seed=seed)[0, :, 0].astype(int)
        assert 120 <= row[-1] - row[0] <= 128  # half of the width, less half a pixel at each end


@pytest.mark.parametrize("policy", ["v9", "rand-q", "rand-m10-x3y", "rand-tall"])
def test_unknown_policy(policy: str) -> None:
    with pytest.raises(UserError, match=rf"data\.policy={policy} is unknown; AutoAugment's are v0"):
        train(policy)


def transformed(*transforms: A.BasicTransform, seed: int = 0) -> np.ndarray:
    transform = TrainTransform(32, interpolation="bilinear", transforms=transforms)
    return transform(Decoded(NOISE), seed=seed)


def test_transforms_are_albumentations_on_the_finished_image() -> None:
    plain = TrainTransform(32, interpolation="bilinear")(Decoded(NOISE), seed=0)
    for change in (A.VerticalFlip(p=1), A.InvertImg(p=1), A.ToGray(p=1)):
        assert np.array_equal(transformed(change), change(image=plain)["image"])


def test_transforms_follow_from_the_seed_and_act_independently() -> None:
    """A flip and an inversion of half of the images each: all four combinations."""
    changes = (A.VerticalFlip(p=0.5), A.InvertImg(p=0.5))
    outcomes = []
    for seed in range(60):
        plain = TrainTransform(32, interpolation="bilinear")(Decoded(NOISE), seed=seed)
        found = transformed(*changes, seed=seed)
        assert np.array_equal(found, transformed(*changes, seed=seed))
        expected = (plain, plain[::-1], 255 - plain, 255 - plain[::-1])
        outcomes.append([np.array_equal(found, image) for image in expected].index(True))
    assert np.bincount(outcomes, minlength=4).min() > 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (A.RandomCrop(16, 16, p=0.1), r"RandomCrop gives \(16, 16, 3\) for an image of"),
        (A.Normalize(), "Normalize gives float32 pixels, expected uint8"),
        (RandomResizedCrop(16), "is no albumentations transform"),
    ],
)
def test_transforms_that_do_not_fit(change: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        transformed(change)

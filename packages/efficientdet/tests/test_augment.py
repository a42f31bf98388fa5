"""Scale jitter: where pixels and boxes go. Before it: grid mask and policy."""

from pathlib import Path

import albumentations as A
import numpy as np
import pytest
from PIL import Image

from compound.data.images import Decoded, Jpeg, open_picture
from efficientdet.data.augment import PAD_COLOUR, Augment, ScaleJitter, fitted_size
from efficientdet.data.operations import Picture, grid_mask

NO_BOXES = np.empty((0, 4), np.float32), np.empty(0, np.int64)


def test_whole_picture_fits_top_left_and_the_rest_is_mean_colour() -> None:
    image = np.full((50, 100, 3), 200, np.uint8)
    box = np.array([[10, 20, 60, 40]], np.float32)
    out, boxes, labels = Augment((64, 64))(Decoded(image), box, np.array([7]), seed=0)
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
        out, boxes, _ = augment(Decoded(image), box, np.array([0]), seed=seed)
        rows, columns = np.nonzero(out.mean(2) > 180)
        if len(boxes) == 0:
            assert len(rows) < 200  # only a sliver of the box is left
            continue
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(boxes[0], seen, atol=2.0)


def test_seeds_decide() -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    augment = Augment((48, 48), scale=(0.5, 2.0))
    first, again, other = (augment(Decoded(image), *NO_BOXES, seed=s)[0] for s in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("count", [0, 250])
def test_any_number_of_boxes(count: int) -> None:
    boxes = np.tile(np.array([[4, 4, 20, 20]], np.float32), (count, 1))
    image = np.zeros((32, 32, 3), np.uint8)
    _, out, labels = Augment((32, 32))(Decoded(image), boxes, np.zeros(count, np.int64), seed=0)
    assert out.shape == (count, 4)
    assert labels.shape == (count,)


@pytest.mark.parametrize("shape", [(200, 300), (300, 200), (3, 2), (1, 40)])
def test_grid_mask_blackens_squares(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 200, np.uint8)
    shares = []
    for seed in range(200):
        out = grid_mask(image, np.random.default_rng(seed))
        assert out.shape == image.shape
        assert set(np.unique(out)) <= {0, 200}
        shares.append((out == 0).mean())
    if min(shape) == 200:
        # Lines are 0.6 of a period in either direction: 0.4 * 0.4 is left between them.
        assert np.mean(shares) == pytest.approx(0.16, abs=0.02)


def test_grid_and_policy_come_before_the_jitter_and_keep_to_its_seed() -> None:
    image = np.random.default_rng(0).integers(1, 255, (64, 64, 3), np.uint8)
    box = np.array([[8, 8, 40, 40]], np.float32)
    plain, masked, never = (
        Augment((48, 48), scale=(0.5, 2.0), **kind)
        for kind in ({}, {"grid_mask": 1.0}, {"grid_mask": 1e-9})
    )
    for seed in range(5):
        first, second, third = (
            augment(Decoded(image), box, np.array([0]), seed=seed)
            for augment in (plain, masked, never)
        )
        # The same crop, other pixels.
        np.testing.assert_array_equal(first.boxes, second.boxes)
        assert (first.image != second.image).any()
        assert (first.image == third.image).all()
    policy = Augment((48, 48), policy="v1")
    outs = [policy(Decoded(image), box, np.array([0]), seed=seed) for seed in (0, 0, 1, 2, 3)]
    assert all((a == b).all() for a, b in zip(*outs[:2], strict=True))
    assert len({out.image.tobytes() for out in outs}) > 2


def test_finish_leaves_the_size_to_who_made_it() -> None:
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    augment = Augment((48, 64), scale=(0.1, 2.0), transforms=[A.HorizontalFlip(p=1.0)])
    out = augment.finish(Picture(image, np.array([[0.0, 0, 10, 8]]), np.array([2])), seed=0)
    assert (out.image == image[:, ::-1]).all()
    np.testing.assert_allclose(out.boxes, [[54, 0, 64, 8]])


# Of 255: the result is rounded to whole numbers (0.5), and OpenCV computes with weights in steps
# of 1/2048 and rounds between the two directions (0.25 more is seen); the mean's rounding in
# PAD_COLOUR is less.
PREPROCESSING_TOLERANCE = 0.8


@pytest.mark.real
@pytest.mark.parametrize("name", ["same_256x256", "up_100x150", "down_411x300"])
def test_evaluation_is_the_official_one(compound_data: Path, name: str) -> None:
    folder = compound_data / "expected" / "tf" / "efficientdet-d0" / "pipeline"
    with np.load(folder / f"{name}.npz") as file:
        official = dict(file)
    image = official["raw"][0]
    kept = fitted_size(image.shape[:2], (256, 256))
    # 256 / 411 * 300 = 186.9 and 256 / 150 * 100 = 170.7: fractions are cut off
    assert kept == {"same": (256, 256), "up": (170, 256), "down": (256, 186)}[name.split("_")[0]]
    # In shares of the picture's sides.
    boxes_in = official["boxes_in"][:, [1, 0, 3, 2]] * ([image.shape[1], image.shape[0]] * 2)
    out, boxes = ScaleJitter((256, 256), (1.0, 1.0))(Decoded(image), boxes_in, seed=0)
    std = np.array([0.229, 0.224, 0.225]) * 255
    expected = official["preprocessed"][0] * std + np.array([0.485, 0.456, 0.406]) * 255
    assert np.abs(out - expected).max() < PREPROCESSING_TOLERANCE
    sound = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    assert (np.flatnonzero(sound) + 1).tolist() == official["classes_out"][:, 0].tolist()
    # Officially boxes end at the last pixel's index, here behind it.
    clipped = boxes[sound].clip(0, 255)
    np.testing.assert_allclose(clipped, official["boxes_out"][:, [1, 0, 3, 2]], atol=1e-4)


def test_antialiased_evaluation_is_pillows() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    labels = np.zeros(0, np.int64)
    augment = Augment((45, 60), antialias=True)
    out = augment(Decoded(image), np.zeros((0, 4), np.float32), labels, seed=0)
    wanted = Image.fromarray(image).resize((60, 45), Image.Resampling.BILINEAR)
    assert np.array_equal(out.image, np.asarray(wanted))


def test_transforms_draw_independently_of_each_other() -> None:
    """Two flips of half of the pictures each: all four combinations, each about as often."""
    transforms = [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]
    augment = Augment((8, 8), transforms=transforms)
    image = np.zeros((8, 8, 3), np.uint8)
    image[0, 0] = 255
    corners = []
    for seed in range(400):
        out = augment(
            Decoded(image), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), seed=seed
        )
        corners.append(int(out.image[..., 0].argmax()))
    counts = np.unique(corners, return_counts=True)[1]
    assert len(counts) == 4
    assert counts.min() > 70


def test_flips_do_not_follow_the_scale() -> None:
    augment = Augment((64, 64), scale=(0.5, 1.0), transforms=[A.HorizontalFlip(p=0.5)])
    image = np.full((64, 64, 3), 255, np.uint8)
    sizes: dict[bool, list[int]] = {True: [], False: []}
    for seed in range(200):
        out = augment(
            Decoded(image), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), seed=seed
        )
        columns = (out.image[0, :, 0] == 255).nonzero()[0]
        if len(columns) < 64:  # what is padded shows whether it was flipped
            sizes[bool(columns[0] > 0)].append(len(columns))
    assert max(sizes[True]) > 56
    assert max(sizes[False]) > 56


def photograph(path: Path) -> None:
    """Write noise whose amplitude falls with frequency, as in photographs."""
    shape = (480, 640)
    frequency = np.hypot(np.fft.fftfreq(480)[:, None], np.fft.rfftfreq(640))[..., None]
    white = np.random.default_rng(0).standard_normal((*shape, 3))
    spectrum = np.fft.rfft2(white, axes=(0, 1)) / np.maximum(frequency, 1 / 640)
    noise = np.fft.irfft2(spectrum, shape, axes=(0, 1))
    pixels = (128 + 50 * noise / noise.std()).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path, quality=90)


def test_what_is_decoded_late_is_what_is_decoded_whole(tmp_path: Path) -> None:
    """Up to what two versions of libjpeg-turbo round differently."""
    photograph(tmp_path / "a.jpg")
    source = open_picture(tmp_path / "a.jpg")
    assert isinstance(source, Jpeg)
    box, labels = np.array([[50, 60, 500, 400]], np.float32), np.array([0])
    augment = Augment((512, 512), scale=(0.1, 2.0), transforms=[A.HorizontalFlip(p=0.5)])
    for seed in range(16):
        found, expected = (
            augment(kind, box, labels, seed=seed) for kind in (source, Decoded(source.whole()))
        )
        np.testing.assert_array_equal(found.boxes, expected.boxes)
        difference = np.abs(found.image.astype(int) - expected.image.astype(int))
        assert difference.max() <= 2
        assert difference.mean() < 0.1


def test_flips_alone_are_albumentations() -> None:
    """A transform that never acts sends the others through albumentations' pipeline."""
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    boxes = np.array([[4, 8, 30, 40], [0, 0, 96, 64], [90, 60, 96, 64]], np.float32)
    flips, never = [A.HorizontalFlip(p=0.5), A.HorizontalFlip(p=0.3)], A.VerticalFlip(p=0.0)
    alone, through = (
        Augment((48, 48), scale=(0.5, 2.0), transforms=transforms, min_box=2.0)
        for transforms in (flips, [*flips, never])
    )
    assert alone.pipeline is None
    assert through.pipeline is not None
    for seed in range(30):
        ours, theirs = (a(Decoded(image), boxes, np.arange(3), seed=seed) for a in (alone, through))
        np.testing.assert_array_equal(ours.image, theirs.image)
        np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=1e-4)
        assert ours.labels.tolist() == theirs.labels.tolist()
        assert ours.labels.dtype == theirs.labels.dtype == np.int64

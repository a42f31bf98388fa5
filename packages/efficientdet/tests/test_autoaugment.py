"""Policies: the official tables, and that pixels and boxes move together."""

import hashlib
import json

import numpy as np
import pytest
import torch
from torchvision.transforms import functional as F

from compound.errors import UserError
from efficientdet.data import operations as ops
from efficientdet.data.autoaugment import POLICIES, RANDAUGMENT, Policy, apply_operation
from efficientdet.data.operations import Picture

MOVING = ["Rotate_BBox", "ShearX_BBox", "ShearY_BBox", "TranslateX_BBox", "TranslateY_BBox"]
WITHIN = [
    "Rotate_Only_BBoxes",
    "ShearX_Only_BBoxes",
    "ShearY_Only_BBoxes",
    "TranslateX_Only_BBoxes",
    "TranslateY_Only_BBoxes",
    "Flip_Only_BBoxes",
    "Solarize_Only_BBoxes",
    "Equalize_Only_BBoxes",
    "Cutout_Only_BBoxes",
]
COLOURS = [
    *("AutoContrast", "Equalize", "Posterize", "Solarize", "SolarizeAdd"),
    *("Color", "Contrast", "Brightness", "Sharpness"),
]
EVERY = [*MOVING, *WITHIN, *COLOURS, "Cutout", "BBox_Cutout"]
# SHA-256 of the official file's rows, written as JSON with numbers as floats.
OFFICIAL = {
    "v0": "192a6db09f9658f5",
    "v1": "9d342103abf65e0c",
    "v2": "0c031d4e237339dd",
    "v3": "b1005d6e43e0c195",
}


def noise(height: int = 60, width: int = 80) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def bright(height: int, width: int, box: tuple[int, int, int, int]) -> Picture:
    image = np.zeros((height, width, 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    return Picture(image, np.array([box], np.float64), np.array([3]))


def apply(picture: Picture, name: str, level: float = 10, seed: int = 0) -> Picture:
    # Three times the probability, since operations within boxes take a third of it.
    probability = 3.0 if name.endswith("_Only_BBoxes") else 1.0
    return apply_operation(picture, name, probability, level, np.random.default_rng(seed))


@pytest.mark.parametrize("name", POLICIES)
def test_tables_are_the_official_ones(name: str) -> None:
    rows = [[[word, float(p), float(level)] for word, p, level in row] for row in POLICIES[name]]
    assert hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16] == OFFICIAL[name]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", MOVING)
def test_a_bright_rectangle_and_its_box_move_together(name: str, seed: int) -> None:
    picture = bright(400, 500, (230, 150, 290, 190))
    moved = apply(picture, name, level=4, seed=seed)
    rows, columns = np.nonzero(moved.image[..., 0] == 255)
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert np.abs(moved.boxes - picture.boxes).max() > 5
    np.testing.assert_allclose(moved.boxes[0], seen, atol=1.0)
    assert moved.labels.tolist() == [3]


def test_arguments_at_the_largest_level() -> None:
    picture = bright(600, 800, (390, 290, 410, 310))  # a square of 20 around the centre
    signs = {name: [apply(picture, name, seed=s).boxes[0] for s in range(8)] for name in MOVING}
    found = {name: {tuple(np.round(box, 2).tolist()) for box in signs[name]} for name in MOVING}
    # 250 pixels to either side.
    assert found["TranslateX_BBox"] == {(140, 290, 160, 310), (640, 290, 660, 310)}
    assert found["TranslateY_BBox"] == {(390, 40, 410, 60), (390, 540, 410, 560)}
    # 30 degrees: half sides of 10 become 10 * (cos 30 + sin 30) = 13.66.
    assert found["Rotate_BBox"] == {(386.34, 286.34, 413.66, 313.66)}
    # Rows move by 0.3 of their index, which is the pixel's centre - 0.5: 0.3 * 289.5 = 86.85.
    assert found["ShearX_BBox"] == {
        (390 - 92.85, 290, 410 - 86.85, 310),
        (390 + 86.85, 290, 410 + 92.85, 310),
    }


def test_magnitudes_beyond_the_largest_level_extrapolate() -> None:
    assert Policy("rand-n1-m15").magnitude == 15
    assert len(RANDAUGMENT) == 10
    turned = apply(bright(600, 600, (290, 290, 310, 310)), "Rotate_BBox", level=15)
    # 45 degrees: 10 * sqrt(2) = 14.14.
    np.testing.assert_allclose(turned.boxes, [[285.86, 285.86, 314.14, 314.14]], atol=0.01)


def test_what_leaves_the_picture_is_clipped_or_dropped() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    boxes = np.array([[0, 0, 20, 20], [20, 0, 60, 20], [80, 0, 100, 20]], np.float64)
    out = ops.warp_with_boxes(Picture(image, boxes, np.arange(3)), ops.translate_x((100, 100), 30))
    assert out.boxes.tolist() == [[0, 0, 30, 20], [50, 0, 70, 20]]
    assert out.labels.tolist() == [1, 2]
    assert (out.image[:, 70:] == 128).all()  # what came in is grey
    assert (out.image[:, :70] == 0).all()


@pytest.mark.parametrize("name", WITHIN)
def test_operations_within_boxes_leave_the_rest_alone(name: str) -> None:
    image = noise()
    boxes = np.array([[5.5, 4.2, 25.1, 30.9], [40, 20, 80, 60]])
    out = apply(Picture(image, boxes, np.arange(2)), name, level=3)
    inside = np.zeros(image.shape[:2], bool)
    inside[4:31, 5:26] = inside[20:60, 40:80] = True  # the pixels that the boxes touch
    changed = (out.image != image).any(axis=2)
    assert changed[4:31, 5:26].any()
    assert changed[20:60, 40:80].any()
    assert not changed[~inside].any()
    assert out.boxes is boxes


def test_a_third_of_the_boxes_are_changed() -> None:
    boxes = np.tile([[0.0, 0.0, 4.0, 4.0]], (600, 1))
    boxes += np.repeat(np.arange(600) * 4, 4).reshape(-1, 4) * [1, 0, 1, 0]
    image = np.tile(np.arange(2400, dtype=np.uint16) % 251, (4, 1)).astype(np.uint8)
    picture = Picture(np.stack([image] * 3, axis=2), boxes, np.zeros(600, np.int64))
    out = apply_operation(picture, "Flip_Only_BBoxes", 0.9, 1, np.random.default_rng(0))
    changed = (out.image != picture.image).reshape(4, 600, 4, 3).any(axis=(0, 2, 3))
    assert changed.mean() == pytest.approx(0.3, abs=0.05)  # 0.9 / 3


@pytest.mark.parametrize(
    ("name", "level"),
    [
        *(("AutoContrast", 5), ("Equalize", 5), ("Posterize", 10)),
        *(("SolarizeAdd", 4), ("Color", 6), ("Brightness", 10)),
        *(("Contrast", 2), ("Sharpness", 8)),
    ],
)
def test_colours_agree_with_torchvision(name: str, level: int) -> None:
    # A dark and narrow picture, or stretching it would do nothing.
    image = (noise() // 3 + 20).astype(np.uint8)
    picture = torch.from_numpy(image).permute(2, 0, 1)
    factor = level / 10 * 1.8 + 0.1
    expected = {
        "AutoContrast": lambda: F.autocontrast(picture),
        "Equalize": lambda: F.equalize(picture),
        "Posterize": lambda: F.posterize(picture, 4),
        "SolarizeAdd": lambda: picture + 44,  # int(0.4 * 110); nothing reaches 128 before
        "Color": lambda: F.adjust_saturation(picture, factor),
        "Brightness": lambda: F.adjust_brightness(picture, factor),
        "Contrast": lambda: F.adjust_contrast(picture, factor),
        "Sharpness": lambda: F.adjust_sharpness(picture, factor),
    }[name]()
    out = apply(Picture(image, np.empty((0, 4)), np.empty(0, np.int64)), name, level=level)
    difference = np.abs(out.image.astype(int) - expected.permute(1, 2, 0).numpy())
    # Pillow rounds greys and means to whole numbers, times (factor - 1) twice.
    assert difference.max() <= (2 if name in ("Color", "Contrast") else 1)
    assert (out.image != image).mean() > 0.3


def test_what_becomes_of_single_values() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    picture = Picture(image, np.empty((0, 4)), np.empty(0, np.int64))
    inverted = apply(picture, "Solarize", level=8).image[..., 0].ravel()  # int(0.8 * 256) = 204
    assert inverted[[0, 203, 204, 255]].tolist() == [0, 203, 51, 0]
    added = apply(picture, "SolarizeAdd", level=10).image[..., 0].ravel()
    assert added[[0, 127, 128, 255]].tolist() == [110, 237, 128, 255]
    # int(0.2 * 4) = 0 bits: TensorFlow shifts by 7 at most, so that one bit is left.
    coarse = apply(picture, "Posterize", level=2).image[..., 0].ravel()
    assert coarse[[0, 127, 128, 255]].tolist() == [0, 0, 128, 128]


def test_cutouts_have_the_official_sizes() -> None:
    image = np.zeros((400, 400, 3), np.uint8)
    boxes = np.array([[100, 100, 300, 200]], np.float64)
    picture = Picture(image, boxes, np.zeros(1, np.int64))
    for seed in range(20):
        whole = (apply(picture, "Cutout", level=6, seed=seed).image == 128).all(axis=2)
        assert whole.sum() <= 120 * 120  # twice int(0.6 * 100) wide
        grey = (apply(picture, "BBox_Cutout", level=4, seed=seed).image == 128).all(axis=2)
        # 0.4 * 0.75 = 0.3 of the box, 60 x 30, around a pixel in it and never at the border.
        assert grey.sum() == 60 * 30
        rows, columns = np.nonzero(grey)
        assert 100 <= rows.min() + 15 < 200
        assert 100 <= columns.min() + 30 < 300


@pytest.mark.parametrize("name", EVERY)
def test_empty_boxes_work_and_nothing_is_changed_in_place(name: str) -> None:
    image = noise()
    image.flags.writeable = False  # as Pillow gives it
    for boxes in (np.empty((0, 4)), np.array([[1.0, 2.0, 30.0, 40.0], [79.5, 59.5, 80, 60]])):
        before = boxes.copy()
        for seed in range(3):
            out = apply(Picture(image, boxes, np.zeros(len(boxes), np.int64)), name, seed=seed)
            assert out.image.shape == image.shape
            assert out.image.dtype == np.uint8
            assert len(out.boxes) == len(out.labels) <= len(boxes)
        assert (boxes == before).all()


@pytest.mark.parametrize("name", [*POLICIES, "rand-n1-m15", "rand-n3-m5"])
def test_seeds_decide(name: str) -> None:
    policy = Policy(name)
    picture = Picture(noise(), np.array([[10.0, 10.0, 50.0, 50.0]]), np.zeros(1, np.int64))

    def draw(seed: int) -> Picture:
        return policy(picture, np.random.default_rng(seed))

    for seed in range(10):
        assert all((a == b).all() for a, b in zip(draw(seed), draw(seed), strict=True))
    assert len({draw(seed).image.tobytes() for seed in range(30)}) > 5


@pytest.mark.parametrize("name", ["v4", "rand", "rand-m9", "rand-n1-m15-p1", ""])
def test_unknown_policies_are_refused(name: str) -> None:
    with pytest.raises(
        UserError, match=rf"data.policy={name} is unknown; there are v0, v1, v2, v3"
    ):
        Policy(name)

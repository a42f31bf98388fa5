"""Warps against timm's own, which are Pillow's."""

import random
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image
from timm.data import auto_augment as timm_ops

from backbone.classification.data.warps import WARPS

RESAMPLING = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
FILL = (10, 128, 250)
CASES = [
    (timm_ops.shear_x, 0.3),
    (timm_ops.shear_y, -0.3),
    (timm_ops.translate_x_rel, 0.21),
    (timm_ops.translate_y_rel, -0.21),
    (timm_ops.translate_x_abs, -7.5),
    (timm_ops.translate_y_abs, 7.5),
    (timm_ops.rotate, 30.0),
    (timm_ops.rotate, -11.0),
]


def smooth(height: int, width: int) -> Image.Image:
    """Return waves some ten pixels long, others in each colour."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 3 + k) * np.cos(y / 4 - k) for k in range(3)]
    return Image.fromarray((128 + 100 * np.stack(waves, -1)).astype(np.uint8))


def test_every_warp_of_timm_is_there() -> None:
    operations = set(timm_ops.NAME_TO_OP.values())
    warps = {op for op in operations if op.__name__.startswith(("shear", "translate", "rotate"))}
    assert set(WARPS) == warps == {operation for operation, _ in CASES}


@pytest.mark.parametrize("resample", RESAMPLING)
@pytest.mark.parametrize(("operation", "value"), CASES)
def test_picture_is_as_pillow_warps_it(
    operation: Callable[..., Image.Image], value: float, resample: Image.Resampling
) -> None:
    picture = smooth(60, 90)
    settings = {"fillcolor": FILL, "resample": resample}
    expected = np.asarray(operation(picture, value, **settings)).astype(int)
    found = np.asarray(WARPS[operation](picture, value, **settings)).astype(int)
    filled = (expected == FILL).all(-1)
    assert 0.03 < filled.mean() < 0.6
    # All but the rim of what is left of the picture, where the two differ by intent.
    rim = np.pad(filled, 2, constant_values=True).astype(np.uint8)
    inside = cv2.dilate(rim, np.ones((5, 5)))[2:-2, 2:-2] == 0
    assert inside.mean() > 0.3
    difference = np.abs(found - expected)[inside]
    # A 32nd of a pixel is 1.1 units where the waves are steepest; bicubic filters differ besides.
    assert difference.max() <= (2 if resample == Image.Resampling.BILINEAR else 4)
    outside = cv2.erode(filled.astype(np.uint8), np.ones((5, 5))) == 1
    assert (found[outside] == FILL).all()


def test_draws_the_filter_that_timm_draws() -> None:
    picture = smooth(40, 40)
    seen = set()
    for seed in range(6):
        random.seed(seed)
        drawn = random.choice(RESAMPLING)
        seen.add(drawn)
        expected = WARPS[timm_ops.rotate](picture, 20.0, fillcolor=FILL, resample=drawn)
        random.seed(seed)
        found = WARPS[timm_ops.rotate](picture, 20.0, fillcolor=FILL, resample=RESAMPLING)
        assert found.tobytes() == expected.tobytes()
    assert seen == set(RESAMPLING)

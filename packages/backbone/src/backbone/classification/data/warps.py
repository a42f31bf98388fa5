"""timm's shears, translations and rotations by OpenCV, which is sooner done than Pillow.

At the edge of the picture OpenCV mixes the last pixel with the fill, where Pillow repeats it; its
bicubic filter is sharper, a = -0.75 in place of -0.5; its places may count in 32nds of a pixel.
"""

import math
import random
from collections.abc import Callable, Sequence
from functools import partial

import cv2
import numpy as np
from PIL import Image
from timm.data import auto_augment as timm_ops

# Rows of the matrix from a place in the result to one in the picture, both from its corner.
Matrix = tuple[tuple[float, float, float], tuple[float, float, float]]

_FLAGS = {
    Image.Resampling.BILINEAR: cv2.INTER_LINEAR,
    Image.Resampling.BICUBIC: cv2.INTER_CUBIC,
}


def _rotation(degrees: float, width: int, height: int) -> Matrix:
    """Turn around the middle, counter-clockwise."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = width / 2, height / 2
    return (cos, -sin, x - cos * x + sin * y), (sin, cos, y - sin * x - cos * y)


# By the names of timm's functions, from their argument, width and height.
_MATRICES: dict[str, Callable[[float, int, int], Matrix]] = {
    "shear_x": lambda factor, width, height: ((1, factor, 0), (0, 1, 0)),
    "shear_y": lambda factor, width, height: ((1, 0, 0), (factor, 1, 0)),
    "translate_x_rel": lambda share, width, height: ((1, 0, share * width), (0, 1, 0)),
    "translate_y_rel": lambda share, width, height: ((1, 0, 0), (0, 1, share * height)),
    "translate_x_abs": lambda pixels, width, height: ((1, 0, pixels), (0, 1, 0)),
    "translate_y_abs": lambda pixels, width, height: ((1, 0, 0), (0, 1, pixels)),
    "rotate": _rotation,
}


def _warped(
    name: str,
    picture: Image.Image,
    value: float,
    *,
    fillcolor: tuple[int, int, int],
    resample: Image.Resampling | Sequence[Image.Resampling],
) -> Image.Image:
    """Return what an operation of timm makes of a picture, drawing what it draws."""
    if isinstance(resample, Sequence):
        resample = random.choice(resample)
    # Pillow counts from the corner of the first pixel, OpenCV from its centre.
    matrix = np.array(
        [(a, b, c + (a + b) / 2) for a, b, c in _MATRICES[name](value, *picture.size)]
    )
    matrix[:, 2] -= 0.5
    pixels = cv2.warpAffine(
        np.asarray(picture),
        matrix,
        picture.size,
        flags=_FLAGS[resample] | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=fillcolor,
    )
    return Image.fromarray(pixels)


WARPS: dict[Callable[..., Image.Image], Callable[..., Image.Image]] = {
    getattr(timm_ops, name): partial(_warped, name) for name in _MATRICES
}

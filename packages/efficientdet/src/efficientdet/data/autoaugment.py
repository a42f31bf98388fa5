"""Policies that change pictures together with their boxes: AutoAugment and RandAugment.

From arXiv:1906.11172 with the numbers of google/automl's ``efficientdet/aug/autoaugment.py``. The
paper's policy is ``v0``; ``v1`` to ``v3`` are others that the same authors found to do well.
`operations` says in what the operations differ from the official ones.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from compound.errors import UserError
from efficientdet.data import operations as ops
from efficientdet.data.operations import Picture

# A policy: of its rows one is drawn, whose (operation, probability, level) follow each other.
# A probability of 0 is what the search found as well, and keeps the rows comparable.
Row = Sequence[tuple[str, float, float]]

_V0: list[Row] = [
    [("TranslateX_BBox", 0.6, 4), ("Equalize", 0.8, 10)],
    [("TranslateY_Only_BBoxes", 0.2, 2), ("Cutout", 0.8, 8)],
    [("Sharpness", 0.0, 8), ("ShearX_BBox", 0.4, 0)],
    [("ShearY_BBox", 1.0, 2), ("TranslateY_Only_BBoxes", 0.6, 6)],
    [("Rotate_BBox", 0.6, 10), ("Color", 1.0, 6)],
]
_V1: list[Row] = [
    *_V0,
    [("Color", 0.0, 0), ("ShearX_Only_BBoxes", 0.8, 4)],
    [("ShearY_Only_BBoxes", 0.8, 2), ("Flip_Only_BBoxes", 0.0, 10)],
    [("Equalize", 0.6, 10), ("TranslateX_BBox", 0.2, 2)],
    [("Color", 1.0, 10), ("TranslateY_Only_BBoxes", 0.4, 6)],
    [("Rotate_BBox", 0.8, 10), ("Contrast", 0.0, 10)],
    [("Cutout", 0.2, 2), ("Brightness", 0.8, 10)],
    [("Color", 1.0, 6), ("Equalize", 1.0, 2)],
    [("Cutout_Only_BBoxes", 0.4, 6), ("TranslateY_Only_BBoxes", 0.8, 2)],
    [("Color", 0.2, 8), ("Rotate_BBox", 0.8, 10)],
    [("Sharpness", 0.4, 4), ("TranslateY_Only_BBoxes", 0.0, 4)],
    [("Sharpness", 1.0, 4), ("SolarizeAdd", 0.4, 4)],
    [("Rotate_BBox", 1.0, 8), ("Sharpness", 0.2, 8)],
    [("ShearY_BBox", 0.6, 10), ("Equalize_Only_BBoxes", 0.6, 8)],
    [("ShearX_BBox", 0.2, 6), ("TranslateY_Only_BBoxes", 0.2, 10)],
    [("SolarizeAdd", 0.6, 8), ("Brightness", 0.8, 10)],
]
_V2: list[Row] = [
    [("Color", 0.0, 6), ("Cutout", 0.6, 8), ("Sharpness", 0.4, 8)],
    [("Rotate_BBox", 0.4, 8), ("Sharpness", 0.4, 2), ("Rotate_BBox", 0.8, 10)],
    [("TranslateY_BBox", 1.0, 8), ("AutoContrast", 0.8, 2)],
    [("AutoContrast", 0.4, 6), ("ShearX_BBox", 0.8, 8), ("Brightness", 0.0, 10)],
    [("SolarizeAdd", 0.2, 6), ("Contrast", 0.0, 10), ("AutoContrast", 0.6, 0)],
    [("Cutout", 0.2, 0), ("Solarize", 0.8, 8), ("Color", 1.0, 4)],
    [("TranslateY_BBox", 0.0, 4), ("Equalize", 0.6, 8), ("Solarize", 0.0, 10)],
    [("TranslateY_BBox", 0.2, 2), ("ShearY_BBox", 0.8, 8), ("Rotate_BBox", 0.8, 8)],
    [("Cutout", 0.8, 8), ("Brightness", 0.8, 8), ("Cutout", 0.2, 2)],
    [("Color", 0.8, 4), ("TranslateY_BBox", 1.0, 6), ("Rotate_BBox", 0.6, 6)],
    [("Rotate_BBox", 0.6, 10), ("BBox_Cutout", 1.0, 4), ("Cutout", 0.2, 8)],
    [("Rotate_BBox", 0.0, 0), ("Equalize", 0.6, 6), ("ShearY_BBox", 0.6, 8)],
    [("Brightness", 0.8, 8), ("AutoContrast", 0.4, 2), ("Brightness", 0.2, 2)],
    [("TranslateY_BBox", 0.4, 8), ("Solarize", 0.4, 6), ("SolarizeAdd", 0.2, 10)],
    [("Contrast", 1.0, 10), ("SolarizeAdd", 0.2, 8), ("Equalize", 0.2, 4)],
]
_V3: list[Row] = [
    [("Posterize", 0.8, 2), ("TranslateX_BBox", 1.0, 8)],
    [("BBox_Cutout", 0.2, 10), ("Sharpness", 1.0, 8)],
    [("Rotate_BBox", 0.6, 8), ("Rotate_BBox", 0.8, 10)],
    [("Equalize", 0.8, 10), ("AutoContrast", 0.2, 10)],
    [("SolarizeAdd", 0.2, 2), ("TranslateY_BBox", 0.2, 8)],
    [("Sharpness", 0.0, 2), ("Color", 0.4, 8)],
    [("Equalize", 1.0, 8), ("TranslateY_BBox", 1.0, 8)],
    [("Posterize", 0.6, 2), ("Rotate_BBox", 0.0, 10)],
    [("AutoContrast", 0.6, 0), ("Rotate_BBox", 1.0, 6)],
    [("Equalize", 0.0, 4), ("Cutout", 0.8, 10)],
    [("Brightness", 1.0, 2), ("TranslateY_BBox", 1.0, 6)],
    [("Contrast", 0.0, 2), ("ShearY_BBox", 0.8, 0)],
    [("AutoContrast", 0.8, 10), ("Contrast", 0.2, 10)],
    [("Rotate_BBox", 1.0, 10), ("Cutout", 1.0, 10)],
    [("SolarizeAdd", 0.8, 6), ("Equalize", 0.8, 8)],
]
POLICIES = {"v0": _V0, "v1": _V1, "v2": _V2, "v3": _V3}
RANDAUGMENT = [
    *("Equalize", "Solarize", "Color", "Cutout", "SolarizeAdd", "TranslateX_BBox"),
    *("TranslateY_BBox", "ShearX_BBox", "ShearY_BBox", "Rotate_BBox"),
]
# Magnitudes above the largest level extrapolate: RandAugment's 15 turns by up to 45 degrees.
MAX_LEVEL = 10
# At the largest level: a cutout's half side and a translation in pixels, in pictures and boxes.
CUTOUT, CUTOUT_IN_BOX = 100, 50
TRANSLATE, TRANSLATE_IN_BOX = 250, 120
CUTOUT_AT_BOX = 0.75

# Operations on pixels alone, with the argument that a share of the largest level means.
_PIXELS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "AutoContrast": lambda image, _: ops.autocontrast(image),
    "Equalize": lambda image, _: ops.equalize(image),
    "Flip": lambda image, _: image[:, ::-1].copy(),
    "Posterize": lambda image, share: ops.posterize(image, int(share * 4)),
    "Solarize": lambda image, share: ops.solarize(image, int(share * 256)),
    "SolarizeAdd": lambda image, share: ops.solarize_add(image, int(share * 110)),
    "Color": lambda image, share: ops.color(image, share * 1.8 + 0.1),
    "Contrast": lambda image, share: ops.contrast(image, share * 1.8 + 0.1),
    "Brightness": lambda image, share: ops.brightness(image, share * 1.8 + 0.1),
    "Sharpness": lambda image, share: ops.sharpness(image, share * 1.8 + 0.1),
}
# Operations that move pixels; their sign is drawn.
_MAPS: dict[str, Callable[[tuple[int, ...], float], np.ndarray]] = {
    "Rotate": ops.rotation,
    "ShearX": ops.shear_x,
    "ShearY": ops.shear_y,
    "TranslateX": ops.translate_x,
    "TranslateY": ops.translate_y,
}
_STRENGTH = {"Rotate": 30.0, "ShearX": 0.3, "ShearY": 0.3}


class Policy:
    """A policy by its name.

    Args:
        name: ``v0`` to ``v3``, or RandAugment with ``n`` operations of magnitude ``m``, such as
            the official ``rand-n1-m15``.

    Raises:
        UserError: there is no such policy.
    """

    def __init__(self, name: str) -> None:
        self.rows = POLICIES.get(name)
        match = re.fullmatch(r"rand-n(\d+)-m(\d+)", name)
        if self.rows is None and match is None:
            raise UserError(
                f"data.policy={name} is unknown; there are {', '.join(POLICIES)}, RandAugment such "
                "as rand-n1-m15, and null for none"
            )
        layers, magnitude = match.groups() if match else (0, 0)
        self.num_layers, self.magnitude = int(layers), float(magnitude)

    def __call__(self, picture: Picture, rng: np.random.Generator) -> Picture:
        """Return the picture as one draw of the policy makes it."""
        if self.rows is None:
            names = rng.choice(RANDAUGMENT, self.num_layers)
            row: Row = [(str(name), 1.0, self.magnitude) for name in names]
        else:
            row = self.rows[rng.integers(len(self.rows))]
        for name, probability, level in row:
            picture = apply_operation(picture, name, probability, level, rng)
        return picture


def apply_operation(
    picture: Picture, name: str, probability: float, level: float, rng: np.random.Generator
) -> Picture:
    """Return the picture with an operation applied, or not.

    Args:
        picture: it is not changed itself.
        name: the official name, such as ``Rotate_BBox`` for a picture turned with its boxes and
            ``Rotate_Only_BBoxes`` for what is in each box turned within it.
        probability: of the operation; of those within boxes see `ops.change_in_boxes`.
        level: up to `MAX_LEVEL`.
        rng: what all that is random is drawn from.
    """
    share = level / MAX_LEVEL
    if name.endswith("_Only_BBoxes"):
        change = _change_in_box(name.removesuffix("_Only_BBoxes"), share, rng)
        return ops.change_in_boxes(picture, change, probability, rng)
    if rng.random() >= probability:
        return picture
    image, boxes, labels = picture
    if name.endswith("_BBox"):
        base = name.removesuffix("_BBox")
        argument = _signed(share * _STRENGTH.get(base, TRANSLATE), rng)
        return ops.warp_with_boxes(picture, _MAPS[base](image.shape, argument))
    if name == "Cutout":
        image = ops.cutout(image, int(share * CUTOUT), rng)
    elif name == "BBox_Cutout":
        image = ops.cutout_at_box(image, boxes, share * CUTOUT_AT_BOX, rng)
    else:
        image = _PIXELS[name](image, share)
    return Picture(image, boxes, labels)


def _change_in_box(
    base: str, share: float, rng: np.random.Generator
) -> Callable[[np.ndarray], np.ndarray]:
    """Return what happens to the pixels of each box; its sign is one for all of a picture."""
    if base == "Cutout":
        return partial(ops.cutout, half=int(share * CUTOUT_IN_BOX), rng=rng)
    if base in _PIXELS:
        return lambda image: _PIXELS[base](image, share)
    argument = _signed(share * _STRENGTH.get(base, TRANSLATE_IN_BOX), rng)
    return lambda image: ops.warp(image, _MAPS[base](image.shape, argument))


def _signed(value: float, rng: np.random.Generator) -> float:
    return value if rng.random() < 0.5 else -value

"""The embedded classification data set: one drawn shape to a picture, kept in memory.

Shapes are turned, stretched, textured, low in contrast at times and now and then cut off by the
border. They are large and their backgrounds calm, so that a network learns them in minutes.
"""

import numpy as np

from backbone.classification.data.index import ArrayIndex, ImageIndex
from compound.data.drawing import CLASSES, calm_background, finish, paint, place
from compound.errors import UserError

# Of the picture's side: the side of the square with the shape's area.
SIDE_RANGE = (0.45, 0.7)
CENTRE_RANGE = (0.4, 0.6)
MIN_IN_FRAME = 0.85


def shapes_splits(
    root: str | None = None, *, num_train: int, num_val: int, picture_size: int, seed: int
) -> dict[str, ImageIndex]:
    """Draw the data set.

    Args:
        root: there is none.
        num_train: pictures in the training split.
        num_val: pictures in the validation split.
        picture_size: width and height of every picture in pixels, at least 32.
        seed: not negative; other seeds draw other pictures.

    Raises:
        UserError: a parameter is out of range, or a folder is given.
    """
    if root is not None:
        raise UserError(f"data.root={root}: drawn pictures have no folder; say data=imagefolder")
    least = {"num_train": 1, "num_val": 1, "picture_size": 32, "seed": 0}
    given = (num_train, num_val, picture_size, seed)
    for (name, low), value in zip(least.items(), given, strict=True):
        if value < low:
            raise UserError(f"data.read.{name}={value}: it must be at least {low}")
    return {
        split: _draw_split(count, [seed, number], picture_size)
        for number, (split, count) in enumerate((("train", num_train), ("val", num_val)))
    }


def draw_figure(rng: np.random.Generator, label: int, *, picture_size: int) -> np.ndarray:
    """Return a ``(H, W, 3)`` uint8 RGB picture of one shape of the class ``label``."""
    canvas = calm_background(rng, picture_size)
    figure = None
    while figure is None:
        figure = place(
            rng,
            picture_size,
            label=label,
            side=(SIDE_RANGE[0] * picture_size, SIDE_RANGE[1] * picture_size),
            centre=CENTRE_RANGE,
            min_in_frame=MIN_IN_FRAME,
        )
    paint(rng, canvas, figure)
    return finish(rng, canvas)[..., ::-1]


def _draw_split(count: int, seeds: list[int], picture_size: int) -> ArrayIndex:
    labels = np.arange(count, dtype=np.int64) % len(CLASSES)
    pictures = np.empty((count, picture_size, picture_size, 3), np.uint8)
    for i, label in enumerate(labels.tolist()):
        # A generator per picture: picture i is the same however many there are.
        rng = np.random.default_rng([*seeds, i])
        pictures[i] = draw_figure(rng, label, picture_size=picture_size)
    return ArrayIndex(pictures, labels, CLASSES)

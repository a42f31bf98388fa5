"""Drawing what was found: boxes in the colours of their classes, with names and scores."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from compound.visualize import colour, font_for, write
from efficientdet.postprocess import Detections

# Width of the lines as a share of the picture's shorter side, and the least.
LINE, LEAST_LINE = 1 / 240, 2


def draw(picture: np.ndarray, found: Detections, class_names: Sequence[str]) -> np.ndarray:
    """Return a copy of a picture with its boxes.

    Args:
        picture: ``(H, W, 3)`` uint8 RGB.
        found: in its pixels; the best are drawn last, over the others.
        class_names: names in the order of the labels.
    """
    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    font = font_for(image.size)
    width = max(LEAST_LINE, round(min(image.size) * LINE))
    columns = (column.tolist() for column in found)
    for (x0, y0, x1, y1), score, label in reversed(list(zip(*columns, strict=True))):
        # Pillow refuses boxes that end before they begin.
        box = (x0, y0, max(x0, x1), max(y0, y1))
        pen.rectangle(box, outline=colour(label), width=width)
        write(pen, f"{class_names[label]} {score:.2f}", (x0, y0), colour(label), font)
    return np.asarray(image)

"""Pictures for a page: small, as JPEG."""

from collections.abc import Sequence

import cv2
import numpy as np

from compound.report.page import Box, Shot

QUALITY = 80


def shot(pixels: np.ndarray, caption: str, boxes: Sequence[Box] = (), *, side: int = 480) -> Shot:
    """Return a picture, shrunk so that its longer side is at most ``side``, with its boxes.

    Args:
        pixels: ``(H, W, 3)`` uint8 RGB.
        caption: what is written below it.
        boxes: in its pixels; they are brought into those of the small picture.
        side: in pixels.
    """
    height, width = pixels.shape[:2]
    factor = min(1.0, side / max(height, width))
    # Of a picture of 1 x 5000 pixels a line is left.
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = pixels if factor == 1 else cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    done, encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, QUALITY)
    )
    assert done
    x, y = size[0] / width, size[1] / height
    moved = [
        box._replace(xyxy=(box.xyxy[0] * x, box.xyxy[1] * y, box.xyxy[2] * x, box.xyxy[3] * y))
        for box in boxes
    ]
    return Shot(encoded.tobytes(), size, caption, moved)

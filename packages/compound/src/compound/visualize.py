"""Drawing on pictures: plates with text that can be read at any size, a colour for each class."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

# Height of the letters as a share of the picture's shorter side, and what is still readable.
TEXT, LEAST_TEXT = 1 / 36, 12
# Turning the hue by the golden angle keeps the colours of neighbouring classes far apart.
_GOLDEN_ANGLE = 137.508
_MARGIN = 2

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Rgb = tuple[int, int, int]


def colour(label: int) -> Rgb:
    """Return the colour of a class, the same in every picture."""
    red, green, blue = ImageColor.getrgb(f"hsv({label * _GOLDEN_ANGLE % 360:.0f}, 75%, 95%)")[:3]
    return red, green, blue


def font_for(size: tuple[int, int]) -> Font:
    """Return a font for a picture of this width and height."""
    return ImageFont.load_default(max(LEAST_TEXT, round(min(size) * TEXT)))


def write(
    pen: ImageDraw.ImageDraw, text: str, corner: tuple[float, float], fill: Rgb, font: Font
) -> float:
    """Write on a plate above a corner, below it where there is no room, inside the picture.

    Returns:
        The lower edge of the plate.
    """
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height = right - left + 2 * _MARGIN, bottom - top + 2 * _MARGIN
    x = max(0.0, min(corner[0], pen.im.size[0] - width))
    y = corner[1] - height if corner[1] >= height else corner[1]
    pen.rectangle((x, y, x + width, y + height), fill=fill)
    # Rec. 601's brightness says whether black or white is the more readable.
    dark = 0.299 * fill[0] + 0.587 * fill[1] + 0.114 * fill[2] < 128
    place = (x + _MARGIN - left, y + _MARGIN - top)
    pen.text(place, text, fill="white" if dark else "black", font=font)
    return y + height


def as_rgb(picture: np.ndarray) -> np.ndarray:
    """Return a picture ``(H, W, C)`` with three channels, also of one that is grey."""
    return np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture


def draw_guesses(
    picture: np.ndarray, scores: Sequence[float], labels: Sequence[int], class_names: Sequence[str]
) -> np.ndarray:
    """Return a copy of a picture, ``(H, W, 3)`` uint8 RGB, with its classes in the corner."""
    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    font, edge = font_for(image.size), 0.0
    for score, label in zip(scores, labels, strict=True):
        edge = write(pen, f"{class_names[label]} {score:.2f}", (0, edge), colour(label), font)
    return np.asarray(image)

"""Decoding pictures: strictly, and the right way up."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


def read_picture(path: Path, *, upright: bool = True) -> np.ndarray:
    """Return a file's picture, ``(H, W, 3)`` uint8 RGB.

    Args:
        path: the file.
        upright: apply the rotation that a camera noted in the EXIF data, as viewers do. The
            official code ignores it, and so must who has coordinates in the stored picture.

    Raises:
        ValueError: it cannot be decoded to its end.
    """
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file) if upright else file
            if picture.mode.startswith("I"):  # 16 bits, which Pillow would clip to white
                high = (np.asarray(picture) >> 8).astype(np.uint8)
                return np.stack([high] * 3, axis=2)
            if "transparency" in picture.info:  # or Pillow warns of palettes that have it
                picture = picture.convert("RGBA")
            return np.asarray(picture.convert("RGB"))
    except Exception as error:  # Pillow raises all sorts of things on damaged files
        raise ValueError(f"{path} cannot be decoded") from error

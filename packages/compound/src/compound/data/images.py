"""Decoding pictures: strictly, the right way up, and in training no more than will be seen.

Boxes are ``(left, top, right, bottom)`` in whole pixels, sizes are height and width.
"""

from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Protocol

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, ImageOps

Box = tuple[int, int, int, int]

# Endings of files that are taken for images.
EXTENSIONS = (
    ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip

# What the JPEG decoder can shrink by while it decodes, each axis by the same.
REDUCTIONS = (8, 4, 2)
# Rows below a window that the decoder still needs: interpolated colour reaches one or two further,
# and blocks of pixels are at most 16 rows high where brightness is stored in full.
MARGIN, BLOCK = 4, 16
# Of a JPEG's segments: those that hold the size, all but arithmetic coding and lossless ones.
_FRAMES = (0xC0, 0xC1, 0xC2)
_END = b"\xff\xd9"


class UnreadableError(ValueError):
    """A picture cannot be decoded to its end, or is another than was asked for."""


class Source(Protocol):
    """A picture from which the training takes one window."""

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width, for which nothing needs decoding."""
        ...

    def whole(self) -> np.ndarray:
        """Return all of it as `read_picture` does."""
        ...

    def window(self, box: Box, least: tuple[int, int]) -> np.ndarray:
        """Return what is in a box, maybe shrunk, though not below the size ``least``."""
        ...


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture in memory, ``(H, W, 3)`` uint8 RGB."""

    pixels: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def whole(self) -> np.ndarray:
        """Return the picture."""
        return self.pixels

    def window(self, box: Box, least: tuple[int, int]) -> np.ndarray:
        """Return a view of what is in a box, as large as it is."""
        left, top, right, bottom = box
        return self.pixels[top:bottom, left:right]


@dataclass(frozen=True, slots=True)
class Jpeg:
    """An upright JPEG file in memory that is not decoded yet."""

    path: Path
    content: bytes
    size: tuple[int, int]

    def whole(self) -> np.ndarray:
        """Return the picture as Pillow decodes it."""
        return _decoded(self.path, self.content, upright=False)

    def window(self, box: Box, least: tuple[int, int]) -> np.ndarray:
        """Return what is in a box, decoded at 1, 1/2, 1/4 or 1/8 of the size.

        Of what shrinks by 2 or more anyway the decoder need not compute every pixel: it leaves
        out the highest frequencies, which is a good filter but another one than the resizing's:
        after it photographs differ by 1 to 2.5 of 255 in the mean. The box then grows to whole
        pixels of the smaller picture. Of a file that ends as it should nothing below the box is
        decoded.
        """
        left, top, right, bottom = box
        ratio = min((bottom - top) / least[0], (right - left) / least[1])
        factor = next((factor for factor in REDUCTIONS if factor <= ratio), 1)
        whole = self.content.endswith(_END)
        last_row = min(self.size[0], -(-(bottom + MARGIN) // BLOCK) * BLOCK)
        content = _shortened(self.content, last_row) if whole and last_row < self.size[0] else None
        height = -(-(self.size[0] if content is None else last_row) // factor)
        try:
            pixels = simplejpeg.decode_jpeg(
                self.content if content is None else content,
                min_height=height,
                min_width=-(-self.size[1] // factor),
                strict=not whole,
            )
        except ValueError:
            # Of damage, or of what Pillow does not mind, such as bytes behind the end.
            return Decoded(self.whole()).window(box, least)
        # Outwards, so that what is seen is not below ``least``.
        rows = slice(top // factor, -(-bottom // factor))
        return pixels[rows, left // factor : -(-right // factor)]


def open_picture(path: Path, *, upright: bool = True) -> Source:
    """Return a file's picture; a JPEG's is not decoded before it is known what will be seen of it.

    Args:
        path: the file.
        upright: see `read_picture`.

    Raises:
        UnreadableError: as `read_picture`, but for a JPEG only its header is looked at.
    """
    content = _content(path)
    with suppress(Exception), Image.open(BytesIO(content)) as file:
        simple = file.format == "JPEG" and file.mode in ("RGB", "L")
        if simple and not (upright and _is_turned(file)):
            return Jpeg(path, content, (file.height, file.width))
    return Decoded(_decoded(path, content, upright=upright))


def all_of(source: Source) -> np.ndarray:
    """Return all of a training picture, decoded as fast as a window of it."""
    height, width = source.size
    return source.window((0, 0, width, height), (height, width))


def read_picture(path: Path, *, upright: bool = True) -> np.ndarray:
    """Return a file's picture, ``(H, W, 3)`` uint8 RGB.

    Args:
        path: the file.
        upright: apply the rotation that a camera noted in the EXIF data, as viewers do. The
            official code ignores it, and so must who has coordinates in the stored picture.

    Raises:
        UnreadableError: it cannot be decoded to its end.
    """
    return _decoded(path, _content(path), upright=upright)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}") from error


def _decoded(path: Path, content: bytes, *, upright: bool) -> np.ndarray:
    try:
        with Image.open(BytesIO(content)) as file:
            picture = ImageOps.exif_transpose(file) if upright else file
            if picture.mode.startswith("I"):  # 16 bits, which Pillow would clip to white
                high = (np.asarray(picture) >> 8).astype(np.uint8)
                return np.stack([high] * 3, axis=2)
            if "transparency" in picture.info:  # or Pillow warns of palettes that have it
                picture = picture.convert("RGBA")
            return np.asarray(picture.convert("RGB"))
    except Exception as error:  # Pillow raises all sorts of things on damaged files
        raise UnreadableError(f"{path} cannot be decoded") from error


def _is_turned(file: Image.Image) -> bool:
    noted = "exif" in file.info or "xmp" in file.info
    return noted and file.getexif().get(ExifTags.Base.Orientation, 1) != 1


def _shortened(content: bytes, height: int) -> bytes | None:
    """Return a JPEG whose header says that it ends after ``height`` rows, if that can be done."""
    at = 2
    while content[at : at + 1] == b"\xff" and at + 7 <= len(content):
        if content[at + 1] in _FRAMES:
            return content[: at + 5] + height.to_bytes(2) + content[at + 7 :]
        at += 2 + int.from_bytes(content[at + 2 : at + 4])
    return None

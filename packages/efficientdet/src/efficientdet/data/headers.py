"""What the headers of picture files say, for formats whose annotations do not hold sizes."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from PIL import ExifTags, Image

from compound.errors import UserError


class Header(NamedTuple):
    """Size of a picture as it is stored, in pixels.

    ``turned`` tells that viewers show it turned or mirrored, as an EXIF orientation asks for.
    """

    width: int
    height: int
    turned: bool

    def pixels(self, *shares: float) -> tuple[float, ...]:
        """Return a box of shares of the picture, left, top, right, bottom, in pixels."""
        sides = (self.width, self.height, self.width, self.height)
        return tuple(share * side for share, side in zip(shares, sides, strict=True))


def read_headers(paths: Sequence[Path], *, source: Path) -> list[Header]:
    """Return the header of every picture, without decoding any.

    Args:
        paths: The pictures.
        source: The file that asks for them, for messages.

    Raises:
        UserError: A picture is missing or is none.
    """
    # The disk is what takes the time, so threads help although they share one interpreter.
    with ThreadPoolExecutor() as pool:
        headers = list(pool.map(_read_header, paths))
    broken = [path for path, header in zip(paths, headers, strict=True) if header is None]
    if broken:
        raise UserError(
            f"{source}: {broken[0]} {'cannot be read' if broken[0].is_file() else 'is missing'} "
            f"({len(broken)} such of {len(paths)} pictures); mend it or take it out"
        )
    return [header for header in headers if header is not None]


def _read_header(path: Path) -> Header | None:
    try:
        with Image.open(path) as picture:
            return Header(*picture.size, turned=_is_turned(picture))
    except Exception:  # Pillow raises all sorts of things on damaged files
        return None


def _is_turned(picture: Image.Image) -> bool:
    orientation = 1
    with suppress(Exception):  # damaged EXIF data turns nothing
        # The PNG class's own method would decode the picture, to look for a tag behind it.
        exif = Image.Image.getexif(picture)
        orientation = exif.get(ExifTags.Base.Orientation, 1)
    return orientation in range(2, 9)

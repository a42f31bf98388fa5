"""Two perceptual hashes of 64 bits, which stay when a picture is resized, recompressed, lightened.

Difference hash: whether each of 8 x 8 spots is darker than its right neighbour. Perceptual hash:
whether each of the 8 x 8 lowest frequencies of the picture at 32 x 32 is above their median (both
by N. Krawetz, hackerfactor.com, 2011 and 2013).
"""

import cv2
import numpy as np

_BITS = 8
_FINE = 32
# Below this deviation, in grey levels, noise alone would decide the bits.
DULL = 1.5


def hashes_of(picture: np.ndarray) -> tuple[int, int] | None:
    """Return the perceptual hash and the difference hash, None of a picture of one colour.

    Args:
        picture: ``(H, W, 3)`` uint8 RGB.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    spots = _shrunk(grey, _BITS + 1, _BITS)
    fine = _shrunk(grey, _FINE, _FINE)
    if fine.std() < DULL:
        return None
    lowest = cv2.dct(fine)[:_BITS, :_BITS]
    return _packed(lowest > np.median(lowest)), _packed(spots[:, :-1] < spots[:, 1:])


def _shrunk(grey: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return the mean of each part, in fractions, as rounding would make ties of neighbours."""
    return cv2.resize(grey.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)


def _packed(bits: np.ndarray) -> int:
    """Return 64 bits as a number, the first row's in front."""
    return int.from_bytes(np.packbits(bits).tobytes(), "big")

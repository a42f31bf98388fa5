"""Near-duplicates among many pictures, by two perceptual hashes of 64 bits.

The hashes stay when a picture is resized, recompressed, lightened. Difference hash: whether each of
8 x 8 spots is darker than its right neighbour. Perceptual hash: whether each of the 8 x 8 lowest
frequencies of the picture at 32 x 32 is above their median (both by N. Krawetz, hackerfactor.com,
2011 and 2013).

Of two hashes that differ in at most d of 64 bits, cut into d + 1 bands, one band is the same
(pigeonholes): only pictures that share a band are compared. Equal hashes are one group.

Shapes: N = pictures, G = groups, E = pairs of groups.
"""

import logging
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np

log = logging.getLogger(__name__)

# Bits in which two perceptual hashes of one picture may differ, and two difference hashes.
NEAR, NEAR_DIFFERENCE = 6, 8
_BITS = 64
# Rows and columns of the bits, and of the picture whose frequencies are taken.
_SIDE, _FINE = 8, 32
# Below this deviation, in grey levels, noise alone would decide the bits.
DULL = 1.5
# Of a film's frames, where nearly all are near each other, this is enough to say so.
MOST_PAIRS = 4_000_000


class Twin(NamedTuple):
    """A picture and another one that it looks like, by their rows."""

    picture: int
    other: int
    distance: int


class Groups(NamedTuple):
    """Pictures that look alike.

    Attributes:
        members: ``(N,)`` group of each picture, -1 where it has no hash.
        pairs: ``(E, 2)`` groups that are near each other, each pair in both directions.
        distances: ``(E,)`` bits in which their perceptual hashes differ.
    """

    members: np.ndarray
    pairs: np.ndarray
    distances: np.ndarray


def hashes_of(picture: np.ndarray) -> tuple[int, int] | None:
    """Return the perceptual hash and the difference hash, None of a picture of one colour.

    Args:
        picture: ``(H, W, 3)`` uint8 RGB.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    spots = _shrunk(grey, _SIDE + 1, _SIDE)
    fine = _shrunk(grey, _FINE, _FINE)
    if fine.std() < DULL:
        return None
    lowest = cv2.dct(fine)[:_SIDE, :_SIDE]
    return _packed(lowest > np.median(lowest)), _packed(spots[:, :-1] < spots[:, 1:])


def _shrunk(grey: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return the mean of each part, in fractions, as rounding would make ties of neighbours."""
    return cv2.resize(grey.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)


def _packed(bits: np.ndarray) -> int:
    """Return 64 bits as a number, the first row's in front."""
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def group(hashes: np.ndarray, known: np.ndarray) -> Groups:
    """Compare pictures.

    Args:
        hashes: ``(N, 2)`` uint64, see `hashes_of`.
        known: ``(N,)`` bool, which of the pictures have hashes.
    """
    members = np.full(len(hashes), -1)
    unique, members[known] = np.unique(hashes[known], axis=0, return_inverse=True)
    pairs = _near_pairs(unique)
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    return Groups(members, pairs, _distances(unique[pairs[:, 0], 0], unique[pairs[:, 1], 0]))


def find_twins(groups: Groups, rows: np.ndarray, among: np.ndarray | None = None) -> list[Twin]:
    """Return the nearest other picture of each that has one.

    Args:
        groups: of all pictures.
        rows: the pictures in question, rising.
        among: the pictures that are looked at for it, rising; None for those of ``rows`` that
            come before it, so that of several copies the first has no twin.
    """
    others = rows if among is None else among
    first = _first_members(groups, others)
    left, right = groups.pairs.T
    usable = first[right] >= 0
    if among is None:
        usable &= first[right] < first[left]
    order = np.lexsort((first[right], groups.distances, left))
    order = order[usable[order]]
    sources, at = np.unique(left[order], return_index=True)
    nearest = dict(zip(sources.tolist(), order[at].tolist(), strict=True))
    twins = []
    for row in rows[groups.members[rows] >= 0].tolist():
        own = int(groups.members[row])
        if first[own] >= 0 and first[own] != row:
            twins.append(Twin(row, int(first[own]), 0))
        elif own in nearest:
            pair = nearest[own]
            twins.append(Twin(row, int(first[right[pair]]), int(groups.distances[pair])))
    return twins


def _first_members(groups: Groups, rows: np.ndarray) -> np.ndarray:
    """Return ``(G,)`` the first of ``rows`` in each group, -1 where there is none."""
    first = np.full(int(groups.members.max(initial=-1)) + 1, -1)
    present, at = np.unique(groups.members[rows], return_index=True)
    first[present[present >= 0]] = rows[at[present >= 0]]
    return first


def _near_pairs(hashes: np.ndarray) -> np.ndarray:
    """Return ``(E, 2)`` rows whose hashes are near, each pair once."""
    edges = np.linspace(0, _BITS, NEAR + 2).round().astype(int)
    found, count = [np.empty((0, 2), np.int64)], 0
    for low, high in pairwise(edges.tolist()):
        band = (hashes[:, 0] >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(band, kind="stable")
        band = band[order]
        # Of each hash the one behind it in its run, then the one behind that, and so on.
        here = np.flatnonzero(band[:-1] == band[1:]) if len(band) else np.empty(0, int)
        step = 1
        while len(here) and count < MOST_PAIRS:
            pairs = np.stack([order[here], order[here + step]], axis=1)
            near = pairs[_are_near(hashes, pairs)]
            if len(near):
                found.append(np.sort(near, axis=1))
                count += len(near)
            step += 1
            here = here[here + step < len(band)]
            here = here[band[here] == band[here + step]]
    if count >= MOST_PAIRS:
        log.warning("%d pairs of pictures look alike; there may be more", count)
    return np.unique(np.concatenate(found), axis=0)


def _are_near(hashes: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    one, other = hashes[pairs[:, 0]], hashes[pairs[:, 1]]
    near = _distances(one[:, 0], other[:, 0]) <= NEAR
    return near & (_distances(one[:, 1], other[:, 1]) <= NEAR_DIFFERENCE)


def _distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.bitwise_count(one ^ other).astype(np.int64)

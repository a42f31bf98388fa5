"""Reads every picture to its end, and keeps a few numbers of each."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image
from rich import get_console
from rich.progress import track

from compound.data.images import Source, UnreadableError
from compound.data.sources import ahead
from compound.doctor.findings import Finding
from compound.doctor.near_duplicates import hashes_of

log = logging.getLogger(__name__)

# Turns and mirrors that a camera may note in the EXIF data; 1 is none.
TURNED = range(2, 9)
# Pictures that are read before a training, to see whether any can be.
TRIED = 32


class Look(NamedTuple):
    """What is kept of one picture.

    Attributes:
        problem: why it cannot be used, or nothing.
        size: height and width.
        hashes: see `hashes_of`.
        orientation: as the EXIF data have it, 1 if they say nothing.
    """

    problem: str
    size: tuple[int, int]
    hashes: tuple[int, int] | None
    orientation: int = 1


@dataclass(slots=True)
class Looks:
    """What is kept of the pictures of a split.

    Attributes:
        hashes: ``(N, 2)`` uint64.
        known: ``(N,)`` bool, which have hashes.
        sizes: ``(N, 2)`` heights and widths, 0 of what was not read.
        problems: why pictures cannot be used, by their rows.
        turned: orientations other than 1, by their rows.
        dull: rows of pictures of one colour.
        seen: how many were looked at.
        wanted: how many were to be looked at.
    """

    hashes: np.ndarray
    known: np.ndarray
    sizes: np.ndarray
    problems: dict[int, str] = field(default_factory=dict)
    turned: dict[int, int] = field(default_factory=dict)
    dull: list[int] = field(default_factory=list)
    seen: int = 0
    wanted: int = 0

    def keep(self, row: int, look: Look) -> None:
        """Add one picture."""
        self.seen += 1
        self.sizes[row] = look.size
        if look.problem:
            self.problems[row] = look.problem
        elif look.hashes is None:
            self.dull.append(row)
        else:
            self.hashes[row], self.known[row] = look.hashes, True
        if look.orientation in TURNED:
            self.turned[row] = look.orientation


def look_at(open_source: Callable[[], Source], path: Path | None = None) -> Look:
    """Read one picture.

    Args:
        open_source: returns it to be decoded; it or the decoding may raise UnreadableError.
        path: its file, if what the EXIF data say of it matters.
    """
    orientation = 1 if path is None else orientation_of(path)
    try:
        picture = open_source().whole()
    except UnreadableError as error:
        return Look(str(error), (0, 0), None, orientation)
    return Look("", (picture.shape[0], picture.shape[1]), hashes_of(picture), orientation)


def orientation_of(path: Path) -> int:
    """Return how viewers turn or mirror a file's picture, 1 for not at all."""
    try:
        with Image.open(path) as file:
            # The PNG class's own method would decode the picture, to look for a tag behind it.
            return int(Image.Image.getexif(file).get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow raises all sorts of things on damaged files
        return 1


def look_through(
    split: str, look: Callable[[int], Look], count: int, *, most: int | None = None
) -> Looks:
    """Read the pictures of a split with a bar, in threads: decoding does not hold Python's lock.

    The user may stop it; what was seen until then is kept.

    Args:
        split: its name, for the bar.
        look: reads one picture, by its row.
        count: how many there are.
        most: how many are looked at, evenly spread; None for all.
    """
    chosen = spread(count, most).tolist()
    looks = Looks(
        np.zeros((count, 2), np.uint64),
        np.zeros(count, bool),
        np.zeros((count, 2), np.int32),
        wanted=len(chosen),
    )
    seen = ahead(look, chosen, readers=max(2, os.cpu_count() or 2))
    shown = track(
        seen,
        f"looking at {split}",
        total=len(chosen),
        transient=True,
        disable=not get_console().is_terminal,
    )
    try:
        for found, row in zip(shown, chosen, strict=True):
            looks.keep(row, found)
    except KeyboardInterrupt:
        log.warning("stopped after %d of %d pictures of %s", looks.seen, len(chosen), split)
    return looks


def spread(count: int, most: int | None) -> np.ndarray:
    """Return at most so many of the rows, evenly spread."""
    if most is None or most >= count:
        return np.arange(count)
    return np.linspace(0, count - 1, most).round().astype(int)


def try_some(split: str, find_problem: Callable[[int], str], count: int) -> list[Finding]:
    """Return whether some of a few pictures of a split cannot be read.

    Args:
        split: its name.
        find_problem: says why a picture cannot be read, or nothing.
        count: how many there are.
    """
    rows = spread(count, TRIED).tolist()
    problems = [problem for row in rows if (problem := find_problem(row))]
    if not problems:
        return []
    text = f"{split}: {len(problems)} of {len(rows)} pictures that were tried cannot be used"
    return [Finding("error", "unreadable", text, "tools/doctor.py looks at all", problems)]


def file_findings(split: str, looks: Looks, name: Callable[[int], str]) -> list[Finding]:
    """Return what is wrong with the pictures themselves.

    Args:
        split: its name.
        looks: what was seen.
        name: names a picture, by its row.
    """
    findings = []
    if looks.seen < looks.wanted:
        text = f"{split}: only {looks.seen} of {looks.wanted} pictures were looked at"
        findings.append(Finding("error", "stopped", text, "run it again to the end"))
    if looks.problems:
        text = f"{split}: {len(looks.problems)} of {looks.seen} pictures cannot be used"
        advice = (
            "fetch them again or take them out; training would see blank ones, and a score "
            "refuses them"
        )
        places = list(looks.problems.values())
        findings.append(Finding("error", "unreadable", text, advice, places))
    if looks.dull:
        text = f"{split}: {len(looks.dull)} pictures are of one colour"
        places = [name(row) for row in looks.dull]
        advice = "look whether they were lost on the way"
        findings.append(Finding("hint", "one_colour", text, advice, places))
    return findings

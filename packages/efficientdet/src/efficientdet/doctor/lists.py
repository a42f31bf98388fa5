"""What lists of images say: images listed twice, without objects, or turned by viewers (EXIF)."""

from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np

from compound.doctor.files import Looks
from compound.doctor.findings import Finding, Severity
from efficientdet.data.index import AnnotationIndex

# Share of a split's pictures without objects from which on it is a warning.
MANY_EMPTY = 0.5
# Orientations from here on swap width and height.
SIDEWAYS = 5
_TURN = "mogrify -auto-orient turns them for good, exiftool -Orientation= removes the note"
_LOOK = f"look which of both was annotated; {_TURN}"
_NOTHING = "nothing need be done"


def list_findings(splits: Mapping[str, AnnotationIndex]) -> Iterator[Finding]:
    """Yield what is odd about the lists of all splits."""
    for (one, first), (other, second) in combinations(splits.items(), 2):
        if first.image_dir.resolve() != second.image_dir.resolve():
            continue
        if rows := np.flatnonzero(np.isin(second.file_names, first.file_names)).tolist():
            yield Finding(
                "error",
                "listed_in_both",
                f"{len(rows)} pictures are listed in {one} and in {other}",
                f"the score on {other} would be of what was learnt; take them out of one list",
                [picture_name(second, row) for row in rows],
            )
    for split, index in splits.items():
        names, counts = np.unique(index.file_names, return_counts=True)
        if repeated := names[counts > 1].tolist():
            yield Finding(
                "warning",
                "listed_twice",
                f"{split}: {len(repeated)} files are listed under more than one id",
                "join their annotations under one id; each would see the other's objects as "
                "background",
                repeated,
            )
        objects = np.bincount(index.owners[~index.crowd], minlength=len(index))
        if empty := np.flatnonzero(objects == 0).tolist():
            yield Finding(
                "warning" if len(empty) >= MANY_EMPTY * len(index) else "hint",
                "empty",
                f"{split}: {len(empty)} of {len(index)} pictures have no objects",
                "check that there are none in them; data.empty=drop leaves them out of a training",
                [picture_name(index, row) for row in empty],
            )


def picture_name(index: AnnotationIndex, row: int) -> str:
    """Return the file of a picture with its folder's name."""
    return f"{index.image_dir.name}/{index.file_names[row]}"


def orientation_findings(split: str, index: AnnotationIndex, looks: Looks) -> list[Finding]:
    """Return what is to be known of pictures that viewers turn.

    They are read as they are stored, as in COCO. Of those that lie on their side the annotated
    size says which of the two was annotated.
    """
    sideways, stored, unknown = [], [], []
    for row, orientation in looks.turned.items():
        width, height = index.sizes[row].tolist()
        told = orientation >= SIDEWAYS and width != height
        if told and "its annotation says" in looks.problems.get(row, ""):  # see `open_picture`
            sideways.append(row)
        elif row not in looks.problems:
            (stored if told else unknown).append(row)
    findings = []
    kinds: list[tuple[Severity, list[int], str, str]] = [
        ("error", sideways, "are annotated as viewers turn them, not as they are stored", _TURN),
        ("warning", unknown, "are turned by viewers, and read as they are stored", _LOOK),
        ("hint", stored, "are turned by viewers, but annotated as they are stored", _NOTHING),
    ]
    for severity, rows, text, advice in kinds:
        if rows:
            places = [picture_name(index, row) for row in rows]
            text = f"{split}: {len(rows)} pictures {text} (EXIF)"
            findings.append(Finding(severity, "turned", text, advice, places))
    return findings

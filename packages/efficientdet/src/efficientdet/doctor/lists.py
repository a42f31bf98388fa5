"""What the lists of pictures say: files that are listed twice, pictures without objects."""

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from compound.doctor.findings import Finding
from efficientdet.data.index import AnnotationIndex

# Share of a split's pictures without objects from which on it is a warning.
MANY_EMPTY = 0.5


def list_findings(splits: Mapping[str, AnnotationIndex]) -> list[Finding]:
    """Return what is odd about the lists of all splits."""
    findings = []
    for one, other in combinations(splits, 2):
        findings += _shared(one, splits[one], other, splits[other])
    for split, index in splits.items():
        findings += _repeated(split, index) + _empty(split, index)
    return findings


def picture_name(index: AnnotationIndex, row: int) -> str:
    """Return the file of a picture with its folder's name."""
    return f"{index.image_dir.name}/{index.file_names[row]}"


def _shared(one: str, first: AnnotationIndex, other: str, second: AnnotationIndex) -> list[Finding]:
    """Return the files that are in both splits."""
    if first.image_dir.resolve() != second.image_dir.resolve():
        return []
    rows = np.flatnonzero(np.isin(second.file_names, first.file_names))
    if not len(rows):
        return []
    return [
        Finding(
            "error",
            "listed_in_both",
            f"{len(rows)} pictures are listed in {one} and in {other}",
            f"the score on {other} would be of what was learnt; take them out of one list",
            [picture_name(second, row) for row in rows.tolist()],
        )
    ]


def _repeated(split: str, index: AnnotationIndex) -> list[Finding]:
    names, counts = np.unique(index.file_names, return_counts=True)
    repeated = names[counts > 1].tolist()
    if not repeated:
        return []
    text = f"{split}: {len(repeated)} files are listed under more than one id"
    advice = "join their annotations under one id; each would see the other's objects as background"
    return [Finding("warning", "listed_twice", text, advice, repeated)]


def _empty(split: str, index: AnnotationIndex) -> list[Finding]:
    objects = np.bincount(index.owners[~index.crowd], minlength=len(index))
    rows = np.flatnonzero(objects == 0)
    if not len(rows):
        return []
    many = len(rows) >= MANY_EMPTY * len(index)
    return [
        Finding(
            "warning" if many else "hint",
            "empty",
            f"{split}: {len(rows)} of {len(index)} pictures have no objects",
            "check that there are none in them; data.empty=drop leaves them out of a training",
            [picture_name(index, row) for row in rows.tolist()],
        )
    ]

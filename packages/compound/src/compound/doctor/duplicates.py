"""Pictures that occur twice: in training and validation, within a split, or in two classes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from compound.doctor.files import Looks
from compound.doctor.findings import Finding
from compound.doctor.near_duplicates import Twin, find_twins, group

# Names a picture, by its split and row.
Name = Callable[[str, int], str]
Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Pairs of pictures that look alike, each a picture and an earlier one.

    Attributes:
        twins: by two splits, of each picture of the first the nearest of the second; by one split
            twice, of each picture the nearest before it. Those across splits come first.
    """

    twins: Mapping[tuple[str, str], list[Twin]]

    def pairs(self) -> list[tuple[Place, Place]]:
        """Return all pairs as splits and rows, those across splits first."""
        return [
            ((split, twin.picture), (other, twin.other))
            for (split, other), twins in self.twins.items()
            for twin in twins
        ]


def find_duplicates(looks: Mapping[str, Looks]) -> Duplicates:
    """Compare the pictures of all splits with each other."""
    groups = group(
        np.concatenate([split.hashes for split in looks.values()]),
        np.concatenate([split.known for split in looks.values()]),
    )
    names, starts, count = list(looks), {}, 0
    for name, split in looks.items():
        starts[name] = count
        count += len(split.known)
    rows = {name: starts[name] + np.arange(len(split.known)) for name, split in looks.items()}
    across = [(name, other) for i, name in enumerate(names) for other in names[:i]]
    twins = {}
    for name, other in [*across, *((name, name) for name in names)]:
        among = None if name == other else rows[other]
        twins[name, other] = [
            Twin(twin.picture - starts[name], twin.other - starts[other], twin.distance)
            for twin in find_twins(groups, rows[name], among)
        ]
    return Duplicates(twins)


def duplicate_findings(found: Duplicates, name: Name) -> list[Finding]:
    """Return what was found; pairs across splits come first."""
    findings = []
    for (split, other), twins in found.twins.items():
        if not twins:
            continue
        text = f"{split}: {len(twins)} pictures look like "
        places = [_pair(twin, split, other, name) for twin in twins]
        if split == other:
            advice = "they count twice; take one of each pair out unless that is meant"
            text += "an earlier one"
            findings.append(Finding("hint", "duplicates_within", text, advice, places))
        else:
            advice = f"the score on {split} flatters; take them out of one of the two"
            text += f"one of {other}"
            findings.append(Finding("warning", "duplicates_across", text, advice, places))
    return findings


def contradictions(
    found: Duplicates, labels: Mapping[str, np.ndarray], class_names: tuple[str, ...], name: Name
) -> list[Finding]:
    """Return the pictures that occur in two classes.

    Args:
        found: the pairs.
        labels: ``(N,)`` of each split's pictures.
        class_names: in the order of the labels.
        name: names a picture.
    """
    places = []
    for (split, row), (other, at) in found.pairs():
        one, another = labels[split][row], labels[other][at]
        if one != another:
            places.append(
                f"{name(split, row)} is {class_names[one]}, {name(other, at)} is "
                f"{class_names[another]}"
            )
    if not places:
        return []
    text = f"{len(places)} pictures look like one of another class"
    advice = "one of the two labels is wrong, or the classes overlap; settle which"
    return [Finding("warning", "contradiction", text, advice, places)]


def _pair(twin: Twin, split: str, other: str, name: Name) -> str:
    how = "the same" if twin.distance == 0 else f"{twin.distance} of 64 bits differ"
    return f"{name(split, twin.picture)} and {name(other, twin.other)} ({how})"

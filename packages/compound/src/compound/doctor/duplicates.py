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
        across: by the two splits: of each picture of the first the nearest of the second.
        within: by split: of each picture the nearest before it.
    """

    across: Mapping[tuple[str, str], list[Twin]]
    within: Mapping[str, list[Twin]]

    def pairs(self) -> list[tuple[Place, Place]]:
        """Return all pairs as splits and rows, those across splits first."""
        found = [
            ((split, twin.picture), (other, twin.other))
            for (split, other), twins in self.across.items()
            for twin in twins
        ]
        return found + [
            ((split, twin.picture), (split, twin.other))
            for split, twins in self.within.items()
            for twin in twins
        ]


def find_duplicates(looks: Mapping[str, Looks]) -> Duplicates:
    """Compare the pictures of all splits with each other."""
    names = list(looks)
    starts = np.cumsum([0, *(len(looks[name].known) for name in names)])
    groups = group(
        np.concatenate([looks[name].hashes for name in names]),
        np.concatenate([looks[name].known for name in names]),
    )
    rows = {
        name: np.arange(start, end)
        for name, start, end in zip(names, starts, starts[1:], strict=False)
    }
    origin = dict(zip(names, starts.tolist(), strict=False))
    across = {
        (name, other): [
            Twin(twin.picture - origin[name], twin.other - origin[other], twin.distance)
            for twin in find_twins(groups, rows[name], rows[other])
        ]
        for i, name in enumerate(names)
        for other in names[:i]
    }
    within = {
        name: [
            Twin(twin.picture - origin[name], twin.other - origin[name], twin.distance)
            for twin in find_twins(groups, rows[name])
        ]
        for name in names
    }
    return Duplicates(across, within)


def duplicate_findings(found: Duplicates, name: Name) -> list[Finding]:
    """Return what was found; pairs across splits are told first."""
    findings = []
    for (split, other), twins in found.across.items():
        if twins:
            findings.append(
                Finding(
                    "warning",
                    "duplicates_across",
                    f"{split}: {len(twins)} pictures look like one of {other}",
                    f"the score on {split} flatters; take them out of one of the two",
                    [_pair(twin, split, other, name) for twin in twins],
                )
            )
    for split, twins in found.within.items():
        if twins:
            findings.append(
                Finding(
                    "hint",
                    "duplicates_within",
                    f"{split}: {len(twins)} pictures look like an earlier one",
                    "they count twice; take one of each pair out unless that is meant",
                    [_pair(twin, split, split, name) for twin in twins],
                )
            )
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

"""Checks a classification data set: files, sizes, classes, duplicates, contradictions, samples."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from backbone.classification.data.index import FileIndex, ImageIndex
from compound.doctor.balance import balance_findings, class_facts
from compound.doctor.diagnosis import Diagnosis, Options
from compound.doctor.duplicates import contradictions, duplicate_findings, find_duplicates
from compound.doctor.files import Look, Looks, file_findings, look_at, look_through, try_some
from compound.doctor.findings import Finding
from compound.doctor.sections import classes_section, duplicates_section

if TYPE_CHECKING:
    from backbone.classification.data.datamodule import ClassificationData

# Pictures whose shorter side is below this share of the network's are enlarged much; and sides
# in this ratio or beyond are squashed, or mostly cut off.
SMALL, LONG = 0.5, 3.0

Splits = Mapping[str, ImageIndex]


def diagnose(data: "ClassificationData", options: Options) -> Diagnosis:
    """Check all of a data set.

    Args:
        data: told by its network how pictures are to be seen.
        options: how thoroughly.
    """
    splits: Splits = data.splits
    findings, looks = class_findings(splits), {}

    def name(split: str, row: int) -> str:
        return picture_name(splits[split], row)

    for split, index in splits.items():
        count = len(index.labels)
        seen = look_through(split, partial(_look, index), count, most=options.pictures)
        findings += file_findings(split, seen, partial(name, split))
        findings += _sizes(split, seen, data.size, partial(name, split))
        looks[split] = seen
    found = find_duplicates(looks)
    labels = {split: index.labels for split, index in splits.items()}
    findings += contradictions(found, labels, data.class_names, name)
    findings += duplicate_findings(found, name)
    counts = class_counts(splits)
    sections = [
        classes_section(counts, data.class_names, things="pictures"),
        duplicates_section(found, name, lambda split, row: splits[split].source(row).whole()),
    ]
    facts: dict[str, Any] = {
        "image_size": data.size,
        "pictures": {split: len(index.labels) for split, index in splits.items()},
        "classes": class_facts(counts, data.class_names),
    }
    return Diagnosis(findings, facts, sections)


def picture_name(index: ImageIndex, row: int) -> str:
    """Return the file of a picture, or its place where there is none."""
    if isinstance(index, FileIndex):
        return f"{index.root.name}/{index.file_names[row]}"
    return f"picture {row}"


def _look(index: ImageIndex, row: int) -> Look:
    return look_at(lambda: index.source(row))


def _sizes(split: str, looks: Looks, side: int, name: Callable[[int], str]) -> list[Finding]:
    """Return the pictures that the network sees much enlarged, or little of."""
    shorter, longer = looks.sizes.min(1), looks.sizes.max(1)
    findings = []
    for check, chosen, text, advice in (
        (
            "small",
            (shorter > 0) & (shorter < SMALL * side),
            f"have a shorter side below {SMALL * side:.0f} pixels, half of the network's {side}",
            "a smaller model.image_size may do as well and is faster",
        ),
        (
            "long",
            (shorter > 0) & (longer >= LONG * shorter),
            f"are {LONG:.0f} times as long as wide or more",
            "the network sees their middle, or all of them squashed (data.crop=null)",
        ),
    ):
        if chosen.any():
            places = [name(row) for row in np.flatnonzero(chosen).tolist()]
            text = f"{split}: {len(places)} of {looks.seen} pictures {text}"
            findings.append(Finding("hint", check, text, advice, places))
    return findings


def check_quickly(data: "ClassificationData") -> list[Finding]:
    """Return what is odd about the classes, and about a few training pictures."""
    findings = class_findings(data.splits)
    if "train" in data.splits:
        find_problem = partial(data.find_problem, "train")
        findings += try_some("train", find_problem, data.num_pictures("train"))
    return findings


def class_findings(splits: Splits) -> list[Finding]:
    """Return what is odd about the classes."""
    names = next(iter(splits.values())).class_names
    return balance_findings(class_counts(splits), names, things="pictures")


def class_counts(splits: Splits) -> dict[str, np.ndarray]:
    """Return how many pictures ``(K,)`` each class has in each split."""
    return {
        split: np.bincount(index.labels, minlength=len(index.class_names))
        for split, index in splits.items()
    }

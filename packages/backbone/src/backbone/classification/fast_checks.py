"""What can be told of a classification data set in a moment."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from backbone.classification.data.index import ImageIndex
from compound.doctor.balance import balance_findings
from compound.doctor.files import try_some
from compound.doctor.findings import Finding

if TYPE_CHECKING:
    from backbone.classification.data.datamodule import ClassificationData

Splits = Mapping[str, ImageIndex]


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

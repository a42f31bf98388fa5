"""What can be told of a detection data set in a moment, mostly of its annotations alone."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from compound.doctor.balance import balance_findings
from compound.doctor.files import try_some
from compound.doctor.findings import Finding
from efficientdet.data.index import AnnotationIndex
from efficientdet.doctor.boxes import as_seen, box_findings
from efficientdet.doctor.coverage import AnchorShapes, small_finding
from efficientdet.doctor.lists import list_findings
from efficientdet.specs import DetSpec

if TYPE_CHECKING:
    from efficientdet.data.datamodule import DetectionData

Splits = Mapping[str, AnnotationIndex]


def check_quickly(data: "DetectionData", spec: DetSpec) -> list[Finding]:
    """Return all but what needs every picture, better anchors, and a score."""
    findings = index_findings(data.splits, data.size)
    if "train" not in data.splits:
        return findings
    index, size = data.splits["train"], data.size
    boxes = as_seen(index, size)[~index.crowd]
    small = small_finding("train", boxes, AnchorShapes.of(spec), size=size, levels=spec.levels)
    unreadable = try_some("train", partial(data.find_problem, "train"), len(index))
    return [*findings, *small, *unreadable]


def index_findings(splits: Splits, size: tuple[int, int]) -> list[Finding]:
    """Return what is odd about lists, boxes and classes at an input ``(height, width)``."""
    findings = list(list_findings(splits))
    for split, index in splits.items():
        findings += box_findings(split, index, size)
    names = next(iter(splits.values())).class_names
    return findings + balance_findings(class_counts(splits), names, things="objects")


def class_counts(splits: Splits) -> dict[str, np.ndarray]:
    """Return how many objects ``(K,)`` each class has in each split, crowds left out."""
    return {
        split: np.bincount(index.labels[~index.crowd], minlength=len(index.class_names))
        for split, index in splits.items()
    }

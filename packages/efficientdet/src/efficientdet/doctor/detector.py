"""Checks a detection data set: files, boxes, classes, duplicates, anchors, score, samples."""

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from compound.doctor.balance import class_facts
from compound.doctor.diagnosis import Diagnosis, Options
from compound.doctor.duplicates import Duplicates, duplicate_findings, find_duplicates
from compound.doctor.files import Look, file_findings, look_at, look_through
from compound.doctor.findings import Finding
from compound.doctor.sections import classes_section, duplicates_section
from efficientdet.data.dataset import open_picture
from efficientdet.data.index import AnnotationIndex
from efficientdet.doctor.fast_checks import Splits, class_counts, index_findings
from efficientdet.doctor.fit import fit_anchors
from efficientdet.doctor.lists import picture_name
from efficientdet.doctor.orientation import orientation_findings
from efficientdet.doctor.self_check import truth_findings
from efficientdet.evaluation.evaluator import EvaluationOptions
from efficientdet.specs import DetSpec

if TYPE_CHECKING:
    from efficientdet.data.datamodule import DetectionData


def diagnose(
    data: "DetectionData", spec: DetSpec, options: Options, *, evaluation: EvaluationOptions
) -> Diagnosis:
    """Check all of a data set.

    Args:
        data: told by its network how pictures are to be seen.
        spec: the detector, whose anchors are measured.
        options: how thoroughly.
        evaluation: how a training scores.
    """
    splits: Splits = data.splits
    of_pictures, found = _look(splits, options)
    findings, scores = [*index_findings(splits, data.size), *of_pictures], {}
    for split, index in splits.items():
        if split != "train":
            of_truth, scores[split] = truth_findings(split, index, evaluation)
            findings += of_truth
    fit = fit_anchors(splits, spec, data.size, options, crowd=data.crowd)
    findings += fit.findings
    counts = class_counts(splits)
    sections = [
        classes_section(counts, data.class_names, things="objects"),
        *fit.sections,
        duplicates_section(found, partial(_name, splits), partial(_pixels, splits)),
    ]
    facts: dict[str, Any] = {
        "image_size": list(data.size),
        "pictures": {split: len(index) for split, index in splits.items()},
        "classes": class_facts(counts, data.class_names),
        "truth_ap": scores,
        **fit.facts,
    }
    return Diagnosis(findings, facts, sections, fit.files)


def _look(splits: Splits, options: Options) -> tuple[list[Finding], Duplicates]:
    """Read the pictures; return what is wrong with them, and which look alike."""
    findings, looks = [], {}
    for split, index in splits.items():
        seen = look_through(split, partial(_look_at, index), len(index), most=options.pictures)
        findings += file_findings(split, seen, partial(picture_name, index))
        findings += orientation_findings(split, index, seen)
        looks[split] = seen
    found = find_duplicates(looks)
    return findings + duplicate_findings(found, partial(_name, splits)), found


def _look_at(index: AnnotationIndex, row: int) -> Look:
    return look_at(partial(open_picture, index, row), index.path(row))


def _pixels(splits: Splits, split: str, row: int) -> np.ndarray:
    return open_picture(splits[split], row).whole()


def _name(splits: Splits, split: str, row: int) -> str:
    return picture_name(splits[split], row)

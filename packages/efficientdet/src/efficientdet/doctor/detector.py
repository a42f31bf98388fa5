"""Checks a detection data set: files, boxes, classes, duplicates, anchors, score, samples."""

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

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
from efficientdet.doctor.lists import orientation_findings, picture_name
from efficientdet.evaluation.evaluator import CocoEvaluator, EvaluationOptions
from efficientdet.postprocess import Detections
from efficientdet.specs import DetSpec

if TYPE_CHECKING:
    from efficientdet.data.datamodule import DetectionData

# What rounding of boxes to float32 may cost the annotations' own score.
LEAST_AP = 0.9999


def diagnose(
    data: "DetectionData", spec: DetSpec, options: Options, *, evaluation: EvaluationOptions
) -> Diagnosis:
    """Check all of a data set, whose network has told it how images are to be seen."""
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


def truth_findings(
    split: str, index: AnnotationIndex, options: EvaluationOptions
) -> tuple[list[Finding], float]:
    """Return what the best possible predictions of a split do not find, and their AP."""
    evaluator = CocoEvaluator(index, options)
    for i, image_id in enumerate(index.image_ids.tolist()):
        rows = index.rows(i)
        objects = ~index.crowd[rows]
        boxes = torch.from_numpy(index.boxes[rows][objects]).float()
        labels = torch.from_numpy(index.labels[rows][objects])
        evaluator.add(image_id, Detections(boxes, torch.ones(len(boxes)), labels))
    scores, _ = evaluator.evaluate()
    ap = scores.metrics["mAP"]
    lost = [
        f"{name}: {value:.4f}"
        for name, value in scores.class_ap.items()
        if not math.isnan(value) and value < LEAST_AP
    ]
    if not lost and ap >= LEAST_AP:
        return [], ap
    most = options.max_detections
    text = f"{split}: the annotations themselves score AP {ap:.4f}, not 1"
    pairs = index.owners * len(index.class_names) + index.labels
    if np.bincount(pairs[~index.crowd], minlength=1).max() > most:
        advice = (
            f"a picture has more than {most} objects of a class, of which COCO counts {most}; "
            "raise task.evaluation.max_detections to count all"
        )
        return [Finding("hint", "truth", text, advice, lost)], ap
    advice = "ids or categories are mixed up, or boxes are too small to be scored; check them"
    return [Finding("error", "truth", text, advice, lost)], ap

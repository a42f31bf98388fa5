"""The ground truth as predictions: whatever is right scores 1, or ids and classes are mixed up."""

import math

import numpy as np
import torch

from compound.doctor.findings import Finding
from efficientdet.data.index import AnnotationIndex
from efficientdet.evaluation.evaluator import CocoEvaluator, EvaluationOptions
from efficientdet.postprocess import Detections

# What rounding of boxes to float32 may cost.
LEAST_AP = 0.9999


def truth_findings(
    split: str, index: AnnotationIndex, options: EvaluationOptions
) -> tuple[list[Finding], float]:
    """Return what the best possible predictions of a split do not find, and their AP.

    Args:
        split: its name.
        index: the split.
        options: how a training scores it.
    """
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
    if _most_of_a_class(index) > most:
        advice = (
            f"a picture has more than {most} objects of a class, of which COCO counts {most}; "
            "raise task.evaluation.max_detections to count all"
        )
        return [Finding("hint", "truth", text, advice, lost)], ap
    advice = "ids or categories are mixed up, or boxes are too small to be scored; check them"
    return [Finding("error", "truth", text, advice, lost)], ap


def _most_of_a_class(index: AnnotationIndex) -> int:
    """Return the number of objects that a picture has of one class at most."""
    pairs = index.owners * len(index.class_names) + index.labels
    return int(np.bincount(pairs[~index.crowd], minlength=1).max())

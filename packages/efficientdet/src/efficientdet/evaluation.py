"""COCO mAP through pycocotools, in the pixels of the original pictures.

Boxes are xyxy inside the project and xywh in COCO's files: they are converted here.
"""

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch.distributed as dist
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from efficientdet.data.index import AnnotationIndex
from efficientdet.postprocess import Detections

# The twelve numbers, in pycocotools' order.
METRICS = (
    "mAP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CocoScores:
    """What a split scored: the twelve numbers, and AP of each class (nan without objects)."""

    metrics: dict[str, float]
    class_ap: dict[str, float]


class CocoEvaluator:
    """Collect detections batch by batch and score them once.

    Args:
        index: the split that is scored; crowd regions are ignored as COCO does.
    """

    def __init__(self, index: AnnotationIndex) -> None:
        self.index = index
        self._image_ids: list[int] = []
        self._rows: list[np.ndarray] = []

    def add(self, image_id: int, detections: Detections) -> None:
        """Add one picture's detections, boxes in original pixels."""
        boxes = detections.boxes_xyxy.double().cpu().numpy()
        labels = detections.labels.cpu().numpy()
        rows = np.empty((len(boxes), 7))
        rows[:, 0] = image_id
        rows[:, 1:3] = boxes[:, :2]
        rows[:, 3:5] = boxes[:, 2:] - boxes[:, :2]
        rows[:, 5] = detections.scores.double().cpu().numpy()
        rows[:, 6] = self.index.category_ids[labels]
        self._image_ids.append(image_id)
        self._rows.append(rows)

    def results(self) -> np.ndarray:
        """Return all processes' rows ``(N, 7)``: image id, x, y, w, h, score, category id."""
        return _gathered(np.concatenate([np.empty((0, 7)), *self._rows]))

    def image_ids(self) -> np.ndarray:
        """Return the ids ``(P,)`` of the pictures that all processes were given."""
        return _gathered(np.array(self._image_ids, np.int64))


def _gathered(own: np.ndarray) -> np.ndarray:
    if not (dist.is_available() and dist.is_initialized()):
        return own
    gathered: list[np.ndarray] = [own] * dist.get_world_size()
    dist.all_gather_object(gathered, own)
    return np.concatenate(gathered)


def score(index: AnnotationIndex, results: np.ndarray, image_ids: np.ndarray) -> CocoScores:
    """Score COCO result rows against an index.

    Args:
        index: the ground truth.
        results: ``(N, 7)``, see `CocoEvaluator.results`.
        image_ids: ``(P,)``, pictures that count: all of the index, or those looked at.
    """
    names = index.class_names
    with contextlib.redirect_stdout(io.StringIO()):
        truth = to_coco(index)
        if len(results):
            found = truth.loadRes(results)  # pyright: ignore[reportArgumentType]
        else:  # pycocotools cannot load an empty list
            found = COCO()
            found.dataset = truth.dataset | {"annotations": []}  # pyright: ignore[reportAttributeAccessIssue]
            found.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.params.imgIds = image_ids.tolist()  # pyright: ignore[reportAttributeAccessIssue]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # -1 stands for "no such objects": a split without large ones has no APl.
    stats = [float(v) if v > -1 else float("nan") for v in evaluation.stats]
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # (IoU, recall, class)
    class_ap = {}
    for position, name in enumerate(names):
        valid = precision[:, :, position][precision[:, :, position] > -1]
        class_ap[name] = float(valid.mean()) if valid.size else float("nan")
    return CocoScores(dict(zip(METRICS, stats, strict=True)), class_ap)


def to_coco(index: AnnotationIndex) -> COCO:
    """Return an index as pycocotools' ground truth."""
    coco = COCO()
    owner = np.repeat(index.image_ids, np.diff(index.offsets))
    xywh = index.boxes.astype(np.float64)
    xywh[:, 2:] -= xywh[:, :2]
    coco.dataset = {  # pyright: ignore[reportAttributeAccessIssue]
        "info": {},
        "images": [{"id": int(i)} for i in index.image_ids],
        "categories": [
            {"id": int(i), "name": name}
            for i, name in zip(index.category_ids, index.class_names, strict=True)
        ],
        "annotations": [
            {
                "id": row + 1,
                "image_id": int(owner[row]),
                "category_id": int(index.category_ids[index.labels[row]]),
                "bbox": xywh[row].tolist(),
                "area": float(index.areas[row]),
                "iscrowd": int(index.crowd[row]),
            }
            for row in range(len(owner))
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def write_results(path: Path, results: np.ndarray) -> None:
    """Write result rows as a COCO results file, replacing it only when it is complete."""
    rows = [
        {
            "image_id": int(row[0]),
            "category_id": int(row[6]),
            "bbox": [round(float(v), 2) for v in row[1:5]],
            "score": round(float(row[5]), 5),
        }
        for row in results
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(rows), encoding="utf-8")
    part.replace(path)

"""Collects the detections of all processes and scores them in the pixels of the original pictures.

Boxes are xyxy inside the project and xywh in COCO's files: they are converted here. A result row
is what `loadRes` takes: image id, x, y, w, h, score, category id.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from compound.errors import UserError, closest
from compound.training.gather import from_first, gathered
from efficientdet.data.index import AnnotationIndex
from efficientdet.evaluation.coco_ap import METRICS, CocoTruth, faster_is_installed, mean_of, twelve
from efficientdet.evaluation.voc_ap import voc_ap
from efficientdet.postprocess import Detections

Backend = Literal["auto", "pycocotools", "faster_coco_eval"]


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """How detections are scored.

    Attributes:
        backend: ``pycocotools`` is the reference; ``faster_coco_eval`` gives the same numbers
            sooner; ``auto`` takes the faster one if it is installed.
        max_detections: detections kept of a picture, and counted by COCO of a picture and class.
            The metric AR100 is named after it.
        voc: add ``VOC_AP50``, see `voc_ap`.

    Raises:
        UserError: the backend is unknown or not installed, or COCO cannot count so few.
    """

    backend: Backend = "auto"
    max_detections: int = 100
    voc: bool = False

    def __post_init__(self) -> None:
        closest(self.backend, get_args(Backend), what="task.evaluation.backend")
        if self.backend == "faster_coco_eval" and not faster_is_installed():
            raise UserError(
                "task.evaluation.backend=faster_coco_eval is not installed; run `uv sync --extra "
                "fast-eval` or take pycocotools"
            )
        if not isinstance(self.max_detections, int) or self.max_detections <= 10:
            raise UserError(
                f"task.evaluation.max_detections={self.max_detections}: expected a whole number "
                "above 10, because AR10 counts ten"
            )

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the twelve numbers."""
        most = f"AR{self.max_detections}"
        return tuple(most if name == "AR100" else name for name in METRICS)

    @property
    def faster(self) -> bool:
        """Whether faster-coco-eval computes."""
        return self.backend != "pycocotools" and faster_is_installed()


@dataclass(frozen=True, slots=True)
class CocoScores:
    """What a split scored: the twelve numbers and AP of each class; nan without objects."""

    metrics: dict[str, float]
    class_ap: dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class CocoCurves:
    """What COCO computes; -1 stands for "no such objects".

    Attributes:
        precision: ``(10, 101, K, 4, 3)``: IoU from 0.50 in steps of 0.05; recall; classes in
            order of the labels; all, small, medium and large objects; 1, 10 and
            ``max_detections`` detections.
        recall: ``(10, K, 4, 3)``.
    """

    precision: np.ndarray
    recall: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """The detections of the images that count, and how they scored.

    Attributes:
        image_ids: ``(P,)`` int64, increasing.
        rows: ``(N, 7)`` image id, x, y, w, h, score, category id, in order of the ids.
        scores: the twelve numbers and AP of each class.
        curves: precision and recall that the scores come from.
        max_detections: the number of detections counted in an image and class.
    """

    image_ids: np.ndarray
    rows: np.ndarray
    scores: CocoScores
    curves: CocoCurves
    max_detections: int


class CocoEvaluator:
    """Collect detections batch by batch and score them once; `reset` begins anew.

    Args:
        index: the split that is scored; crowd regions are ignored as COCO does.
        options: how it is scored.
    """

    def __init__(self, index: AnnotationIndex, options: EvaluationOptions | None = None) -> None:
        self.index = index
        self.options = options or EvaluationOptions()
        self.reset()

    def reset(self) -> None:
        """Forget the detections; the ground truth stays as it was prepared."""
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

    def evaluate(self) -> tuple[CocoScores, Results | None]:
        """Score the pictures that all processes were given; every process must call this.

        The first process scores, the others wait for its scores. A picture that was given twice,
        as samplers that pad do, counts once.

        Returns:
            The scores, and the results in the first process, None in the others.

        Raises:
            RuntimeError: scoring failed in the first process, which itself raises the reason.
        """
        counts = np.array([len(rows) for rows in self._rows], np.int64)
        own = np.concatenate([np.empty((0, 7)), *self._rows])
        parts = gathered((np.array(self._image_ids, np.int64), counts, own))
        outcome: CocoScores | str = ""
        results, failure = None, None
        if parts is not None:
            try:
                image_ids, rows = _merged(parts)
                results = self.scored(rows, image_ids)
                outcome = results.scores
            except Exception as error:  # the others wait and must hear of it, whatever it is
                outcome, failure = repr(error), error
        outcome = from_first(outcome)
        if failure is not None:
            raise failure
        if isinstance(outcome, str):
            raise RuntimeError(f"the first process could not score: {outcome}")
        return outcome, results

    def score(self, results: np.ndarray, image_ids: np.ndarray) -> CocoScores:
        """Return the scores of `scored`."""
        return self.scored(results, image_ids).scores

    def scored(self, rows: np.ndarray, image_ids: np.ndarray) -> Results:
        """Score result rows, without asking other processes.

        Args:
            rows: ``(N, 7)``.
            image_ids: ``(P,)``, pictures that count: all of the index, or those looked at.
        """
        most = self.options.max_detections
        precision, recall = self._truth.curves(rows, image_ids, max_detections=most)
        metrics = dict(zip(self.options.metrics, twelve(precision, recall), strict=True))
        if self.options.voc:
            metrics["VOC_AP50"] = mean_of(voc_ap(self.index, rows, image_ids))
        ids = self.index.category_ids
        positions = np.searchsorted(np.sort(ids), ids)
        curves = CocoCurves(precision[:, :, positions], recall[:, positions])
        class_ap = {
            name: mean_of(curves.precision[:, :, label, 0, -1])
            for label, name in enumerate(self.index.class_names)
        }
        return Results(image_ids, rows, CocoScores(metrics, class_ap), curves, most)

    @cached_property
    def _truth(self) -> CocoTruth:
        return CocoTruth(self.index, faster=self.options.faster)


def _merged(parts: Sequence[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the images' ids and their rows, both in order of the ids and each once.

    Each process has ids ``(P,)``, row counts ``(P,)`` and rows ``(N, 7)``.
    """
    image_ids, counts, rows = (np.concatenate(column) for column in zip(*parts, strict=True))
    unique, first = np.unique(image_ids, return_index=True)
    once = np.isin(np.arange(len(image_ids)), first)
    rows = rows[np.repeat(once, counts)]
    return unique, rows[np.argsort(rows[:, 0], kind="stable")]


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
    _replace(path, json.dumps(rows))


def write_class_ap(path: Path, class_ap: Mapping[str, float]) -> None:
    """Write AP of each class as CSV, in order of the labels; an empty cell means no objects."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", "AP"])
    writer.writerows([name, "" if ap != ap else f"{ap:.6f}"] for name, ap in class_ap.items())
    _replace(path, text.getvalue())


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)

"""COCO's score of 500,000 detections.

5,000 pictures with 36,000 boxes of 80 classes and 100 detections each, drawn by a seed: near the
truth and random ones. From the detections of each picture to the twelve numbers, against
`effdet.evaluator.CocoEvaluator`, whose ground truth is prepared already; ours prepares it in its
time. All twelve numbers are the same to 1e-9. Ours scores by faster-coco-eval, the peer by
pycocotools.
"""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import effdet.evaluator
import numpy as np
import torch
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from efficientdet.data.index import AnnotationIndex
from efficientdet.evaluation.coco_ap import to_coco
from efficientdet.evaluation.evaluator import CocoEvaluator
from efficientdet.postprocess import Detections
from peers.side_by_side import Row, compared, interleaved

NUM_PICTURES, NUM_BOXES, NUM_CLASSES, PER_PICTURE = 5_000, 36_000, 80, 100
SIDE = 640


def measure(device: str) -> Iterator[Row]:
    """Yield one row."""
    if device != "cpu":
        return
    index = make_truth()
    found = make_detections(index)
    evaluator = effdet.evaluator.CocoEvaluator(_dataset(index))
    ours: list[list[float]] = []
    theirs: list[list[float]] = []

    class Recorded(COCOeval):
        """Its evaluator keeps one of the twelve numbers."""

        def summarize(self) -> None:
            super().summarize()
            theirs.append(self.stats.tolist())

    effdet.evaluator.COCOeval = Recorded
    times = interleaved(
        {
            "ours": lambda: ours.append(_score(index, found)),
            "effdet": lambda: _score_effdet(evaluator, found),
        },
        rounds=3,
        warmup=0,
    )
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)
    yield compared(
        times, "ours", "effdet",
        what="500k detections", against="effdet's evaluator, pycocotools", asked=5,
    )  # fmt: skip


def _score(index: AnnotationIndex, found: list[Tensor]) -> list[float]:
    evaluator = CocoEvaluator(index)
    for image_id, rows in zip(index.image_ids.tolist(), found, strict=True):
        evaluator.add(image_id, Detections(rows[:, :4], rows[:, 4], rows[:, 5].long() - 1))
    return list(evaluator.evaluate()[0].metrics.values())


def _score_effdet(evaluator: effdet.evaluator.CocoEvaluator, found: list[Tensor]) -> None:
    for i, rows in enumerate(found):
        # It changes what it is given.
        evaluator.add_predictions(rows.clone()[None], {"img_idx": torch.tensor([i])})
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator.evaluate()


def _dataset(index: AnnotationIndex) -> SimpleNamespace:
    parser = SimpleNamespace(coco=to_coco(index), img_ids=index.image_ids.tolist())
    return SimpleNamespace(parser=parser)


def make_truth() -> AnnotationIndex:
    """Return boxes from 8 to 320 pixels long, one in a hundred a crowd."""
    rng = np.random.default_rng(0)
    owners = np.sort(rng.integers(NUM_PICTURES, size=NUM_BOXES))
    sides = 8 * 40 ** rng.random((NUM_BOXES, 2))
    corner = rng.random((NUM_BOXES, 2)) * (SIDE - sides)
    boxes = _on_grid(np.concatenate([corner, corner + sides], 1))
    return AnnotationIndex(
        image_dir=Path(),
        file_names=np.array([f"{i}.jpg" for i in range(NUM_PICTURES)]),
        image_ids=np.arange(NUM_PICTURES) * 7 + 1,
        sizes=np.full((NUM_PICTURES, 2), SIDE, np.int32),
        offsets=np.searchsorted(owners, np.arange(NUM_PICTURES + 1)),
        boxes=boxes,
        labels=rng.integers(NUM_CLASSES, size=NUM_BOXES),
        crowd=rng.random(NUM_BOXES) < 0.01,
        areas=0.7 * (boxes[:, 2:] - boxes[:, :2]).prod(1),
        class_names=tuple(f"class {i}" for i in range(NUM_CLASSES)),
        category_ids=np.arange(1, NUM_CLASSES + 1),
        repairs={},
    )


def make_detections(index: AnnotationIndex) -> list[Tensor]:
    """Return ``(100, 6)`` a picture: xyxy, falling scores and category ids."""
    rng = np.random.default_rng(1)
    found = []
    for i in range(len(index)):
        rows = index.rows(i)
        copies = 4 * (rows.stop - rows.start)
        noise = rng.normal(0, 0.08, (copies, 4))
        boxes = np.tile(index.boxes[rows], (4, 1))
        boxes += noise * np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        corner = rng.random((PER_PICTURE, 2)) * SIDE * 0.8
        random = np.concatenate([corner, corner + rng.uniform(8, 120, (PER_PICTURE, 2))], 1)
        boxes = np.concatenate([boxes, random])[:PER_PICTURE]
        labels = rng.integers(NUM_CLASSES, size=PER_PICTURE)
        near = min(copies, PER_PICTURE)
        right = rng.random(near) < 0.8
        labels[:near][right] = np.tile(index.labels[rows], 4)[:near][right]
        scores = rng.uniform(0.01, 1, PER_PICTURE)
        scores[:near] = np.clip(scores[:near] + 0.2, 0, 1)
        order = np.argsort(-scores)
        columns = [_on_grid(boxes), scores[:, None], labels[:, None] + 1]
        found.append(torch.from_numpy(np.concatenate(columns, 1)[order]).float())
    return found


def _on_grid(boxes: np.ndarray) -> np.ndarray:
    """Return coordinates whose differences float32, which effdet takes them in, holds exactly."""
    return np.round(boxes * 8) / 8

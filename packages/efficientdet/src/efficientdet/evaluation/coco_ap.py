"""COCO's precision and recall, by pycocotools or faster-coco-eval, and the twelve numbers of them.

Boxes are xyxy inside the project and xywh in COCO's files: the ground truth is converted here.
"""

import contextlib
import gc
import io
from collections.abc import Iterator, Mapping
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from efficientdet.data.index import AnnotationIndex

# The twelve numbers, in pycocotools' order.
METRICS = (
    "mAP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
)  # fmt: skip


def faster_is_installed() -> bool:
    """Whether there is a faster-coco-eval that works; the extra ``fast-eval`` installs it."""
    try:
        import_module("faster_coco_eval")
    except ImportError:
        return False
    return True


class CocoTruth:
    """The ground truth of a split, prepared once.

    Args:
        index: the split.
        faster: let faster-coco-eval compute, not pycocotools; the numbers are the same.
    """

    def __init__(self, index: AnnotationIndex, *, faster: bool) -> None:
        self._coco_class, self._coco_eval = COCO, COCOeval
        if faster:
            package = import_module("faster_coco_eval")
            self._coco_class = package.COCO
            # It would log every step.
            self._coco_eval = partial(package.COCOeval_faster, print_function=lambda *_: None)
        self._truth = to_coco(index, self._coco_class)

    def curves(
        self, results: np.ndarray, image_ids: np.ndarray, *, max_detections: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return COCOeval's precision and recall; -1 stands for "no such objects".

        Args:
            results: ``(N, 7)`` image id, x, y, w, h, score, category id.
            image_ids: ``(P,)``, pictures that count.
            max_detections: how many of a picture and class count.

        Returns:
            Precision ``(10, 101, K, 4, 3)``: IoU from 0.50 in steps of 0.05; recall; classes in
            order of their category ids; all, small, medium and large objects; 1, 10 and
            ``max_detections`` detections. Recall ``(10, K, 4, 3)``.
        """
        with _no_garbage(), contextlib.redirect_stdout(io.StringIO()):
            evaluation = self._coco_eval(self._truth, self._load(results), "bbox")
            evaluation.params.imgIds = image_ids.tolist()
            evaluation.params.maxDets = [1, 10, max_detections]
            evaluation.evaluate()
            evaluation.accumulate()
        return evaluation.eval["precision"], evaluation.eval["recall"]

    def _load(self, results: np.ndarray) -> Any:
        """Return what `loadRes` would, without the polygons that it makes of boxes."""
        found = self._coco_class()
        columns = {
            "id": np.arange(1, len(results) + 1),
            "image_id": results[:, 0].astype(np.int64),
            "category_id": results[:, 6].astype(np.int64),
            "bbox": results[:, 1:5],
            "score": results[:, 5],
            "area": results[:, 3] * results[:, 4],
            "iscrowd": np.zeros(len(results), np.int64),
        }
        found.dataset = self._truth.dataset | {"annotations": _entries(columns)}
        found.createIndex()
        return found


@contextlib.contextmanager
def _no_garbage() -> Iterator[None]:
    """Let Python not look for garbage inside the block.

    It would look through millions of dictionaries that all live to its end: a third of its time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def twelve(precision: np.ndarray, recall: np.ndarray) -> list[float]:
    """Return the numbers of `METRICS` from what `CocoTruth.curves` gives.

    COCO's own summary knows 100 detections only.
    """
    ap = precision[..., -1]
    return [
        mean_of(ap[..., 0]),
        mean_of(ap[0, ..., 0]),
        mean_of(ap[5, ..., 0]),
        *(mean_of(ap[..., area]) for area in (1, 2, 3)),
        *(mean_of(recall[..., 0, detections]) for detections in (0, 1, 2)),
        *(mean_of(recall[..., area, 2]) for area in (1, 2, 3)),
    ]


def mean_of(values: np.ndarray) -> float:
    """Return the mean over what there are objects for, nan if there are none."""
    valid = values[values >= 0]
    return float(valid.mean()) if valid.size else float("nan")


def to_coco(index: AnnotationIndex, coco_class: Any = COCO) -> Any:
    """Return an index as ground truth of pycocotools, or of what has the same interface."""
    coco = coco_class()
    xywh = index.boxes.astype(np.float64)
    xywh[:, 2:] -= xywh[:, :2]
    columns = {
        "id": np.arange(1, len(xywh) + 1),  # 0 would mean "no match"
        "image_id": index.image_ids[index.owners],
        "category_id": index.category_ids[index.labels],
        "bbox": xywh,
        "area": index.areas,
        "iscrowd": index.crowd.astype(int),
    }
    coco.dataset = {
        "info": {},
        "images": [{"id": i} for i in index.image_ids.tolist()],
        "categories": [
            {"id": i, "name": name}
            for i, name in zip(index.category_ids.tolist(), index.class_names, strict=True)
        ],
        "annotations": _entries(columns),
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _entries(columns: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return a dictionary a row, as COCO's files have them."""
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]

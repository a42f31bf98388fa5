"""Predictions of a detector, written as rows and COCO results and drawn on images."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from compound.errors import UserError, closest
from efficientdet.coco_classes import COCO_CATEGORIES
from efficientdet.export.detector import check_settled
from efficientdet.postprocess import METHODS, Detections
from efficientdet.predictor import Detector, detect
from efficientdet.visualize import draw

# Of the published heads; never trained.
UNUSED = "unused "
# Classes that the summary names.
MOST_NAMED = 10
_KEYS = ("score_threshold", "nms_iou", "method", "max_detections")


class DetectionPredictor:
    """Boxes; the results are COCO's, with the names of file and class besides.

    See `compound.task.Predictor`.
    """

    columns: tuple[str, ...] = ("file", "class", "score", "x0", "y0", "x1", "y1")

    def __init__(
        self,
        model: Detector,
        class_names: Sequence[str],
        settings: Mapping[str, Any],
        *,
        given: Iterable[str],
        image_ids: Mapping[str, int],
    ) -> None:
        check_detection(settings)
        self.model = model
        self.batch_size = settings.get("batch_size", 1)
        self.class_names = class_names
        self.category_ids = _category_ids(class_names)
        self.settings = {key: settings[key] for key in _KEYS}
        if (settled := model.nms) is not None:
            self.settings = {key: settings[key] for key in _KEYS if key in set(given)}
            least = max(settings["score_threshold"], settled["score_threshold"])
            self.settings.setdefault("score_threshold", least)
            check_settled(self.settings, settled)
        self.results: list[dict[str, Any]] = []
        self._image_ids = image_ids
        self._files = 0

    def predict(self, images: Iterable[np.ndarray]) -> Iterator[Detections]:
        """Yield the detections in each image, in its own pixels."""
        return detect(self.model, images, batch_size=self.batch_size, **self.settings)

    def rows(self, file: str, prediction: Detections) -> list[tuple[Any, ...]]:
        """Return a row a box. Files that are all called by numbers have these as image ids."""
        self._files += 1
        image_id = self._image_ids.get(file, self._files)
        rows = []
        for box, score, label in zip(*(column.tolist() for column in prediction), strict=True):
            x0, y0, x1, y1 = (round(value, 2) for value in box)
            name = self.class_names[label]
            rows.append((file, name, round(score, 4), x0, y0, x1, y1))
            self.results.append({
                "image_id": image_id, "category_id": self.category_ids[label],
                "bbox": [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)], "score": score,
                "file_name": file, "category": name,
            })  # fmt: skip
        return rows

    def draw(self, image: np.ndarray, prediction: Detections) -> np.ndarray:
        """Return the image with its boxes."""
        return draw(image, prediction, self.class_names)

    def summary(self) -> Iterator[str]:
        """Yield each class with the number of its boxes, the most frequent first."""
        counts = Counter(entry["category"] for entry in self.results)
        if counts:
            most = [f"{count} {name}" for name, count in counts.most_common(MOST_NAMED)]
            left = len(counts) - len(most)
            yield "found: " + ", ".join(most) + (f" and {left} more classes" if left else "")


def check_detection(settings: Mapping[str, Any]) -> None:
    """Refuse settings that nothing can be detected with.

    Raises:
        UserError: a setting is out of its range.
    """
    closest(str(settings["method"]), METHODS, what="method")
    for key in ("score_threshold", "nms_iou"):
        value = settings[key]
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise UserError(f"{key}={value}: expected a share in [0, 1]")
    for key in ("max_detections", "max_candidates"):
        value = settings.get(key, 1)
        if not isinstance(value, int) or value < 1:
            raise UserError(f"{key}={value}: expected a whole number of 1 or more")


def _category_ids(class_names: Sequence[str]) -> list[int]:
    """Return COCO's ids if the classes are COCO's, else one more than the label."""
    ids = {name: number for number, name in COCO_CATEGORIES.items()}
    if all(name in ids or name.startswith(UNUSED) for name in class_names):
        return [ids.get(name, label + 1) for label, name in enumerate(class_names)]
    return [label + 1 for label in range(len(class_names))]

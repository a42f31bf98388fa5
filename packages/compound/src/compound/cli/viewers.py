"""What `predict` does with pictures: look, tell and draw, as a detector or as a classifier.

``results`` are what was found in all pictures so far, as plain values for JSON.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from compound.cli.networks import class_names_of, detects, network_of
from compound.errors import UserError, closest

if TYPE_CHECKING:
    from backbone import EfficientNet
    from backbone.classification.predictor import Guesses
    from efficientdet import Detections, EfficientDet
    from efficientdet.export.detector import ExportedDetector

# Of the published heads; never trained.
UNUSED = "unused "
# Classes or pictures that are told in the terminal.
MOST_TOLD = 10


class Viewer(Protocol):
    """A network and the names of its classes."""

    columns: tuple[str, ...]
    results: list[dict[str, Any]]

    def look(self, pictures: Iterable[np.ndarray]) -> Iterator[Any]:
        """Yield what is found in each picture."""
        ...

    def rows(self, file: str, found: Any) -> list[tuple[Any, ...]]:
        """Return what was found as rows; keep it among the results."""
        ...

    def drawn(self, pixels: np.ndarray, found: Any) -> np.ndarray:
        """Return the picture with what was found."""
        ...

    def told(self) -> Iterator[str]:
        """Yield what was found in all pictures, in lines."""
        ...


class DetectionViewer:
    """Boxes; the results are COCO's, with the names of file and class besides."""

    columns = ("file", "class", "score", "x0", "y0", "x1", "y1")

    def __init__(
        self,
        model: "EfficientDet | ExportedDetector",
        class_names: Sequence[str],
        config: DictConfig,
        numbers: Mapping[str, int],
    ) -> None:
        check_detection(config)
        self.model = model
        self.batch_size = config.batch_size
        self.class_names = class_names
        self.category_ids = _category_ids(class_names)
        keys = ("score_threshold", "nms_iou", "method", "max_detections")
        self.settings = {key: config[key] for key in keys}
        if (settled := getattr(model, "nms", None)) is not None:
            from efficientdet.export.detector import check_settled

            given = {word.partition("=")[0] for word in HydraConfig.get().overrides.task}
            self.settings = {key: config[key] for key in keys if key in given}
            least = max(config.score_threshold, settled["score_threshold"])
            self.settings.setdefault("score_threshold", least)
            check_settled(self.settings, settled)
        self.results: list[dict[str, Any]] = []
        self._numbers = numbers
        self._files = 0

    def look(self, pictures: Iterable[np.ndarray]) -> "Iterator[Detections]":
        """Yield what is found in each picture."""
        from efficientdet.predictor import detect

        return detect(self.model, pictures, batch_size=self.batch_size, **self.settings)

    def rows(self, file: str, found: "Detections") -> list[tuple[Any, ...]]:
        """Return a row a box. Files that are all called by numbers have these as image ids."""
        self._files += 1
        image_id = self._numbers.get(file, self._files)
        rows = []
        for box, score, label in zip(*(column.tolist() for column in found), strict=True):
            x0, y0, x1, y1 = (round(value, 2) for value in box)
            name = self.class_names[label]
            rows.append((file, name, round(score, 4), x0, y0, x1, y1))
            self.results.append({
                "image_id": image_id, "category_id": self.category_ids[label],
                "bbox": [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)], "score": score,
                "file_name": file, "category": name,
            })  # fmt: skip
        return rows

    def drawn(self, pixels: np.ndarray, found: "Detections") -> np.ndarray:
        """Return the picture with its boxes."""
        from efficientdet.visualize import draw

        return draw(pixels, found, self.class_names)

    def told(self) -> Iterator[str]:
        """Yield each class with the number of its boxes, the most frequent first."""
        counts = Counter(entry["category"] for entry in self.results)
        if counts:
            most = [f"{count} {name}" for name, count in counts.most_common(MOST_TOLD)]
            left = len(counts) - len(most)
            yield "found: " + ", ".join(most) + (f" and {left} more classes" if left else "")


class ClassificationViewer:
    """The likeliest classes."""

    columns = ("file", "rank", "class", "probability")

    def __init__(
        self,
        model: "EfficientNet",
        class_names: Sequence[str],
        config: DictConfig,
        _: Mapping[str, int],
    ) -> None:
        self.model = model
        self.class_names = class_names
        self.settings = {"batch_size": config.batch_size, "top": config.top}
        self.results: list[dict[str, Any]] = []

    def look(self, pictures: Iterable[np.ndarray]) -> "Iterator[Guesses]":
        """Yield the classes of each picture."""
        from backbone.classification.predictor import classify

        return classify(self.model, pictures, **self.settings)

    def rows(self, file: str, found: "Guesses") -> list[tuple[Any, ...]]:
        """Return a row a class, the likeliest first."""
        pairs = zip(found.scores.tolist(), found.labels.tolist(), strict=True)
        named = [(self.class_names[label], score) for score, label in pairs]
        self.results.append({"file_name": file, "classes": dict(named)})
        return [(file, i + 1, name, round(score, 4)) for i, (name, score) in enumerate(named)]

    def drawn(self, pixels: np.ndarray, found: "Guesses") -> np.ndarray:
        """Return the picture with its classes."""
        from compound.visualize import draw_guesses

        return draw_guesses(pixels, found.scores.tolist(), found.labels.tolist(), self.class_names)

    def told(self) -> Iterator[str]:
        """Yield the first pictures with their likeliest class."""
        for entry in self.results[:MOST_TOLD]:
            name, score = next(iter(entry["classes"].items()))
            yield f"{entry['file_name']}: {name} ({score:.2f})"


def check_detection(config: DictConfig) -> None:
    """Refuse what no detections can be found with.

    Raises:
        UserError: a setting is out of its range.
    """
    from efficientdet.postprocess import METHODS

    closest(str(config.method), METHODS, what="method")
    for key in ("score_threshold", "nms_iou"):
        value = config[key]
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise UserError(f"{key}={value}: expected a share in [0, 1]")
    for key in ("max_detections", "max_candidates"):
        value = config.get(key, 1)
        if not isinstance(value, int) or value < 1:
            raise UserError(f"{key}={value}: expected a whole number of 1 or more")


def viewer_of(config: DictConfig, device: str, numbers: Mapping[str, int]) -> Viewer:
    """Return the network that the configuration names, with its weights, on a device.

    An exported file runs where its runtime does, on the CPU.

    Args:
        config: of `predict`.
        device: ``cpu`` or ``cuda``.
        numbers: image ids by the names of files; others are counted.

    Raises:
        UserError: there are no such weights, or they do not say what network they are of and the
            configuration's is another.
    """
    from compound.export.runtime import is_program

    model = network_of(config, exported=True)
    names = class_names_of(model)
    if is_program(str(config.weights)):
        if config.optimize:
            raise UserError(f"optimize=true: {config.weights} has been made fast already")
    else:
        model = model.eval().to(device)
        if config.optimize:
            model = model.optimize(batch_size=config.batch_size)
    make: Any = DetectionViewer if detects(model) else ClassificationViewer
    return make(model, names, config, numbers)


def _category_ids(class_names: Sequence[str]) -> list[int]:
    """Return COCO's ids if the classes are COCO's, else one more than the label."""
    from efficientdet.coco_classes import COCO_CATEGORIES

    ids = {name: number for number, name in COCO_CATEGORIES.items()}
    if all(name in ids or name.startswith(UNUSED) for name in class_names):
        return [ids.get(name, label + 1) for label, name in enumerate(class_names)]
    return [label + 1 for label in range(len(class_names))]

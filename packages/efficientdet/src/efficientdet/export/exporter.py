"""A detector to be exported, compared with PyTorch by its boxes, scores and COCO's mAP."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from compound.errors import UserError
from compound.export.comparison import (
    ONE_BY_ONE,
    compared_batches,
    compared_rows,
    labels_among,
)
from compound.export.program import Program
from efficientdet.efficientdet import EfficientDet
from efficientdet.evaluation.evaluator import CocoEvaluator
from efficientdet.export.detector_program import detector_program
from efficientdet.export.differences import compare
from efficientdet.module import to_source
from efficientdet.postprocess import METHODS
from efficientdet.specs import both_sides

_KEYS = ("method", "score_threshold", "nms_iou", "max_candidates", "max_detections")


class DetectorExporter:
    """See `compound.task.Exporter`."""

    metric = "mAP"
    higher_is_better = True
    # Scores and boxes differ by rounding, and by the few detections that it decides.
    limits: Mapping[str, float] = {"score": 1e-3, "box": 0.1, "unmatched": 2e-3}
    units: Mapping[str, str] = {"box": " px", "unmatched": " share"}
    fall = 0.010

    def __init__(
        self,
        model: EfficientDet,
        class_names: Sequence[str],
        settings: Mapping[str, Any],
        make_data: Callable[..., Any],
    ) -> None:
        if settings["image_size"] is not None:
            model.image_size = both_sides(settings["image_size"])
        self.model, self.class_names, self.settings = model, class_names, settings
        self.data = make_data(image_size=list(model.image_size), **ONE_BY_ONE)
        self.data.pad_colour = model.pad_colour
        self.image_size = model.image_size
        self.postprocessing = {key: settings[key] for key in _KEYS}

    def program(self, *, nms: bool, about: dict[str, Any]) -> Program:
        """Trace the detector."""
        return detector_program(
            self.model,
            batch_size=self.settings["batch_size"],
            any_size=self.settings["any_size"],
            nms=self.postprocessing if nms else None,
            **about,
        )

    def predictions(self, network: Any) -> list[Any]:
        """Return the detections in each image.

        Raises:
            UserError: the network itself finds nothing, so that nothing could be compared.
        """
        settings = self.postprocessing if network.nms is None else {}
        found = []
        for batch in compared_batches(self.data, self.settings):
            found += to_source(network.predict(batch.images, **settings), batch)
        if network is self.model and not any(len(detections.scores) for detections in found):
            raise UserError(
                f"score_threshold={self.settings['score_threshold']}: nothing is found in "
                f"{len(found)} pictures, so there is nothing to compare; lower it"
            )
        return found

    def differences(self, expected: list[Any], found: list[Any]) -> dict[str, float]:
        """Return the largest differences of scores and boxes."""
        return compare(expected, found)._asdict()

    def score(self, predictions: list[Any]) -> float | None:
        """Return COCO's mAP."""
        index = self.data.splits[self.settings["split"]]
        known = self.model.class_names is not None
        theirs = labels_among(self.class_names, known, index.class_names)
        if theirs is None:
            return None
        evaluator = CocoEvaluator(index)
        image_ids = index.image_ids[compared_rows(self.data, self.settings)].tolist()
        for image_id, found in zip(image_ids, predictions, strict=True):
            labels = theirs[found.labels.numpy()]
            kept = labels >= 0
            columns = (found.boxes_xyxy[kept], found.scores[kept])
            evaluator.add(image_id, found._make((*columns, found.labels.new_tensor(labels[kept]))))
        return evaluator.evaluate()[0].metrics["mAP"]


def check_inside(settings: Mapping[str, Any]) -> None:
    """Refuse a method of suppression that runtimes do not have.

    Raises:
        UserError: it is a soft one, and it should be inside the program.
    """
    if settings.get("nms") and METHODS[settings["method"]].soft:
        hard = [name for name, method in METHODS.items() if not method.soft]
        raise UserError(
            f"method={settings['method']}: runtimes suppress hard only; give {' or '.join(hard)}, "
            "or nms=false"
        )

"""The task ``det``: object detection."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from compound.task import Card, Control, Exporter, Format, Predictor, Settings, Task
from efficientdet.specs import DetSpec

if TYPE_CHECKING:
    from compound.doctor.diagnosis import Diagnosis, Options
    from compound.doctor.findings import Finding
    from compound.export.runtime import Opened

# The lowest score that a page offers.
LEAST_SCORE = 0.05


class Detection(Task):
    """Detection of objects in images; see `Task`."""

    module = "efficientdet.module.EfficientDetModule"

    def fits(self, group: Literal["model", "data"], settings: Settings) -> bool:
        """Return whether it is a detector, or a data set with boxes."""
        if group == "model":
            return "_target_" not in settings and "aspects" in settings
        return settings.get("_target_") == "efficientdet.data.datamodule.DetectionData"

    def owns(self, metadata: Settings) -> bool:
        """Return whether a file describes a detector."""
        return DetSpec.stored(metadata) is not None

    def create(self, model: Any) -> Any:
        """Build a detector; see `efficientdet.create_model`."""
        from efficientdet import create_model

        return create_model(**model)

    def load(self, path: str | Path) -> Any:
        """Rebuild a detector; see `efficientdet.load_model`."""
        from efficientdet import load_model

        return load_model(path)

    def class_names(self, model: Any) -> Sequence[str]:
        """Return the names; of as many classes as the published heads have they are COCO's."""
        from efficientdet.coco_classes import PUBLISHED_ROWS

        if model.class_names is None and model.num_classes == len(PUBLISHED_ROWS):
            return PUBLISHED_ROWS
        return super().class_names(model)

    def card(self, model: Any, metadata: Settings) -> Card:
        """Return what a model card says of a detector."""
        from efficientdet.card import detector_card

        return detector_card(metadata)

    def check_prediction(self, settings: Settings) -> None:
        """Refuse thresholds out of their range, and soft suppression inside a program."""
        from efficientdet.export.exporter import check_inside
        from efficientdet.predictions import check_detection

        check_detection(settings)
        check_inside(settings)

    def controls(self, settings: Settings) -> Sequence[Control]:
        """Return the thresholds and the method of suppression."""
        from efficientdet.postprocess import METHODS

        least = min(LEAST_SCORE, settings["score_threshold"])
        return (
            Control("score_threshold", "Score threshold", (least, 1.0)),
            Control("nms_iou", "NMS IoU", (0.0, 1.0)),
            Control("method", "NMS method", tuple(METHODS)),
        )

    def predictor(
        self,
        model: Any,
        settings: Settings,
        *,
        given: Iterable[str] = (),
        image_ids: Mapping[str, int] | None = None,
    ) -> Predictor:
        """Return what finds boxes."""
        from efficientdet.predictions import DetectionPredictor

        names = self.class_names(model)
        return DetectionPredictor(model, names, settings, given=given, image_ids=image_ids or {})

    def register_operators(self) -> None:
        """Register the operator of hard suppression."""
        from efficientdet.export import suppress as _  # noqa: F401

    def exported(self, opened: "Opened") -> Any:
        """Return an exported detector."""
        from efficientdet.export.detector import ExportedDetector

        return ExportedDetector(opened)

    def exporter(self, model: Any, settings: Settings, make_data: Callable[..., Any]) -> Exporter:
        """Return what exports a detector."""
        from efficientdet.export.exporter import DetectorExporter

        return DetectorExporter(model, self.class_names(model), settings, make_data)

    def diagnose(self, data: Any, module: Any, options: "Options") -> "Diagnosis":
        """Check files, boxes, classes, duplicates, anchors and the score of the annotations."""
        from efficientdet.doctor.detector import diagnose

        return diagnose(data, module.model.spec, options, evaluation=module.evaluation)

    def check_fast(self, data: Any, module: Any) -> "list[Finding]":
        """Return what is odd about lists, boxes, classes and a few images."""
        from efficientdet.doctor.fast_checks import check_quickly

        return check_quickly(data, module.model.spec)


def _effdet(model: Any, metadata: dict[str, Any]) -> Callable[[Path], None]:
    import torch

    from efficientdet.weights import to_effdet

    state = to_effdet(model)
    return lambda path: torch.save(state, path)


def _tensorflow(model: Any, metadata: dict[str, Any]) -> Callable[[Path], None]:
    from compound.weights.tensorflow import write_checkpoint
    from efficientdet.weights import to_official

    state = to_official(model)
    return lambda path: write_checkpoint(path, state)


def _anchors(metadata: Mapping[str, Any]) -> list[str]:
    spec = metadata["model"]
    octaves = [round(side, 4) for side in spec["octaves"]]
    aspects, scale = spec["aspects"], spec["anchor_scale"]
    return [f"aspects {aspects}, anchor_scale {scale:g}", f"octaves {octaves}"]


Detection.formats = {
    "effdet": Format(".pth", _effdet, left=_anchors),
    "tensorflow": Format(None, _tensorflow, left=_anchors),
}

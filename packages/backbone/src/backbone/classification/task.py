"""The task ``cls``: image classification."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from backbone.specs import NetSpec
from compound.task import Card, Exporter, Format, Predictor, Settings, Task

if TYPE_CHECKING:
    from compound.doctor.diagnosis import Diagnosis, Options
    from compound.doctor.findings import Finding
    from compound.export.runtime import Opened

log = logging.getLogger(__name__)

DATA = "backbone.classification.data.datamodule.ClassificationData"


class Classification(Task):
    """Classification of images; see `Task`."""

    module = "backbone.classification.module.EfficientNetModule"

    def fits(self, group: Literal["model", "data"], settings: Settings) -> bool:
        """Return whether it is a classifier, or a data set of classified images."""
        package, _, name = str(settings.get("_target_", "")).partition(".")
        if group == "model":
            networks = entry_points(group="backbone.networks")
            return name == "create_model" and package in networks.names
        return settings.get("_target_") == DATA

    def owns(self, metadata: Settings) -> bool:
        """Return whether a file describes an EfficientNet; other classifiers are a stranger's."""
        return NetSpec.stored(metadata) is not None

    def load(self, path: str | Path) -> Any:
        """Rebuild a classifier; see `backbone.load_model`."""
        from backbone import load_model

        return load_model(path)

    def class_names(self, model: Any) -> Sequence[str]:
        """Return the names; of a thousand classes without names they are ImageNet's."""
        if model.class_names is None and model.num_classes == 1000:
            from timm.data.imagenet_info import ImageNetInfo

            return list(ImageNetInfo("imagenet-1k").label_descriptions())
        return super().class_names(model)

    def parts(self, model: Any, size: tuple[int, int]) -> Iterator[tuple[str, str, str]]:
        """Yield stem, stages, head and classifier; of another network its children."""
        spec, stride = model.spec, 2
        if not isinstance(spec, NetSpec):
            yield from super().parts(model, size)
            return
        yield "trunk.stem", f"3x3 / 2 -> {spec.stem}", _divided(size, stride)
        for i, stage in enumerate(spec.stages):
            stride *= stage.stride
            yield (
                f"trunk.stages.{i}",
                f"{stage.layers} {stage.block}{stage.expand} {stage.kernel}x{stage.kernel} / "
                f"{stage.stride} -> {stage.channels}",
                _divided(size, stride),
            )
        yield "head", f"1x1 -> {spec.head}", _divided(size, stride)
        yield "classifier", f"linear -> {model.classifier.out_features}", "1 x 1"

    def card(self, model: Any, metadata: Settings) -> Card:
        """Return what a model card says of a classifier."""
        from backbone.classification.card import classifier_card

        return classifier_card(metadata)

    def predictor(
        self,
        model: Any,
        settings: Settings,
        *,
        given: Iterable[str] = (),
        image_ids: Mapping[str, int] | None = None,
    ) -> Predictor:
        """Return what names the likeliest classes."""
        from backbone.classification.predictor import ClassificationPredictor

        return ClassificationPredictor(model, self.class_names(model), settings)

    def exported(self, opened: "Opened") -> Any:
        """Return an exported classifier."""
        from backbone.classification.export import ExportedClassifier

        return ExportedClassifier(opened)

    def exporter(self, model: Any, settings: Settings, make_data: Callable[..., Any]) -> Exporter:
        """Return what exports a classifier."""
        from backbone.classification.exporter import ClassifierExporter

        return ClassifierExporter(model, self.class_names(model), settings, make_data)

    def diagnose(self, data: Any, module: Any, options: "Options") -> "Diagnosis":
        """Check files, sizes, classes and duplicates."""
        from backbone.classification.doctor import diagnose

        return diagnose(data, options)

    def check_fast(self, data: Any, module: Any) -> "list[Finding]":
        """Return what is odd about the classes and about a few images."""
        from backbone.classification.doctor import check_quickly

        return check_quickly(data)


def _divided(size: tuple[int, int], stride: int) -> str:
    return f"{-(-size[1] // stride)} x {-(-size[0] // stride)}"


def _timm(model: Any, metadata: dict[str, Any]) -> Callable[[Path], None]:
    from backbone.weights import interop
    from compound.weights import save_weights

    state = interop.to_timm(model)
    log.info("timm builds it by the name %s", interop.timm_name(model.spec))
    return lambda path: save_weights(path, state, metadata)


def _tensorflow(model: Any, metadata: dict[str, Any]) -> Callable[[Path], None]:
    from backbone.weights import interop
    from compound.weights.tensorflow import write_checkpoint

    state = interop.to_official(model)
    return lambda path: write_checkpoint(path, state)


Classification.formats = {
    "timm": Format(".safetensors", _timm),
    "tensorflow": Format(None, _tensorflow, left=lambda metadata: []),
}

"""A classifier to be exported, compared with PyTorch by its probabilities and its top-1."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from backbone.classification.export import classifier_program
from backbone.classification.predictor import Guesses
from backbone.efficientnet import EfficientNet
from compound.errors import UserError
from compound.export.comparison import (
    ONE_BY_ONE,
    compared_batches,
    compared_rows,
    labels_among,
)
from compound.export.program import Program


class ClassifierExporter:
    """See `compound.task.Exporter`.

    Raises:
        UserError: the settings are a detector's.
    """

    metric = "top1"
    higher_is_better = True
    # The probabilities differ by rounding, and no decision does.
    limits: Mapping[str, float] = {"probability": 1e-3, "top1": 0.0}
    units: Mapping[str, str] = {}
    fall = 0.020

    def __init__(
        self,
        model: EfficientNet,
        class_names: Any,
        settings: Mapping[str, Any],
        make_data: Callable[..., Any],
    ) -> None:
        if settings["nms"]:
            raise UserError("nms=true is for detectors; these weights are a classifier's")
        size = model.spec.image_size if settings["image_size"] is None else settings["image_size"]
        if not isinstance(size, int):
            raise UserError(f"image_size={size}: expected the side of a classifier's pictures")
        model.spec = replace(model.spec, image_size=size)
        self.model, self.class_names, self.settings = model, class_names, settings
        self.data = make_data(image_size=size, in_channels=len(model.mean), **ONE_BY_ONE)
        self.data.preprocessing = model.spec.preprocessing
        self.image_size = (size, size)

    def program(self, *, nms: bool, about: dict[str, Any]) -> Program:
        """Trace the classifier."""
        return classifier_program(
            self.model,
            batch_size=self.settings["batch_size"],
            any_size=self.settings["any_size"],
            **about,
        )

    def predictions(self, network: Any) -> list[Any]:
        """Return the probability of every class for each image."""
        found = []
        for batch in compared_batches(self.data, self.settings):
            found += network.predict(batch.images, top=self.model.num_classes)
        return found

    def differences(self, expected: list[Any], found: list[Any]) -> dict[str, float]:
        """Return the largest difference of probabilities, and how many decisions changed."""
        return compare(expected, found)._asdict()

    def score(self, predictions: list[Any]) -> float | None:
        """Return the fraction of images whose likeliest class is right."""
        index = self.data.splits[self.settings["split"]]
        known = self.model.class_names is not None
        theirs = labels_among(self.class_names, known, index.class_names)
        if theirs is None:
            return None
        likeliest = theirs[[int(found.labels[0]) for found in predictions]]
        return float((likeliest == index.labels[compared_rows(self.data, self.settings)]).mean())


class Difference(NamedTuple):
    """Over some pictures.

    Attributes:
        probability: the largest difference of any class's.
        top1: share of the pictures whose likeliest class is another.
    """

    probability: float
    top1: float


def compare(wanted: Sequence[Guesses], found: Sequence[Guesses]) -> Difference:
    """Compare what two networks made of the same pictures, all classes told."""
    probability, changed = 0.0, 0
    for one, other in zip(wanted, found, strict=True):
        apart = one.scores[one.labels.argsort()] - other.scores[other.labels.argsort()]
        probability = max(probability, float(apart.abs().max()))
        changed += int(one.labels[0] != other.labels[0])
    return Difference(probability, changed / max(len(wanted), 1))

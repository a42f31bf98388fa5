"""Predictions of a classifier, written as rows and drawn on images."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from backbone.classification.predictor import Classifier, Guesses, classify
from compound.visualize import draw_guesses

# Images that the summary names.
MOST_NAMED = 10


class ClassificationPredictor:
    """The likeliest classes; see `compound.task.Predictor`."""

    columns: tuple[str, ...] = ("file", "rank", "class", "probability")

    def __init__(
        self, model: Classifier, class_names: Sequence[str], settings: Mapping[str, Any]
    ) -> None:
        self.model = model
        self.class_names = class_names
        self.settings = {"batch_size": settings.get("batch_size", 1), "top": settings["top"]}
        self.results: list[dict[str, Any]] = []

    def predict(self, images: Iterable[np.ndarray]) -> Iterator[Guesses]:
        """Yield the classes of each image."""
        return classify(self.model, images, **self.settings)

    def rows(self, file: str, prediction: Guesses) -> list[tuple[Any, ...]]:
        """Return a row a class, the likeliest first."""
        pairs = zip(prediction.scores.tolist(), prediction.labels.tolist(), strict=True)
        named = [(self.class_names[label], score) for score, label in pairs]
        self.results.append({"file_name": file, "classes": dict(named)})
        return [(file, i + 1, name, round(score, 4)) for i, (name, score) in enumerate(named)]

    def draw(self, image: np.ndarray, prediction: Guesses) -> np.ndarray:
        """Return the image with its classes."""
        scores, labels = prediction.scores.tolist(), prediction.labels.tolist()
        return draw_guesses(image, scores, labels, self.class_names)

    def summary(self) -> Iterator[str]:
        """Yield the first images with their likeliest class."""
        for entry in self.results[:MOST_NAMED]:
            name, score = next(iter(entry["classes"].items()))
            yield f"{entry['file_name']}: {name} ({score:.2f})"

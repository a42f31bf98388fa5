"""Classification of pictures as users have them: files and arrays of any size.

``model.predict("cat.jpg")`` comes here, and the verb ``predict``, which writes and draws.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from backbone.classification.data.augment import EvalTransform
from backbone.specs import NetSpec
from compound.data.images import Decoded
from compound.data.sources import Picture, ahead, groups_of, pixels_of, several
from compound.visualize import draw_guesses

# Images that the summary names.
MOST_NAMED = 10


class Classifier(Protocol):
    """An `EfficientNet`, or one that was exported."""

    spec: NetSpec
    mean: Tensor

    def normalize(self, images: Tensor) -> Tensor:
        """Turn pictures in 0..255 into the network's input."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """Map that to logits ``(B, K)``."""
        ...


class Guesses(NamedTuple):
    """The likeliest classes of a picture, best first.

    Attributes:
        scores: ``(k,)`` probabilities.
        labels: ``(k,)`` class in 0..K-1.
    """

    scores: Tensor
    labels: Tensor


def classify(
    model: Classifier, pictures: Picture | Iterable[Picture], *, batch_size: int = 1, top: int = 5
) -> Iterator[Guesses]:
    """Yield the classes of each picture, which is cropped and resized as in evaluation.

    Threads decode a few pictures ahead of the network; no more are held in memory.

    Args:
        model: the network.
        pictures: see `pixels_of`.
        batch_size: pictures that the network sees at a time.
        top: how many classes.
    """
    ways = model.spec.preprocessing
    seen = EvalTransform(model.spec.image_size, interpolation=ways.interpolation, crop=ways.crop)

    grey = len(model.mean) == 1

    def prepared(picture: Picture) -> np.ndarray:
        image = seen(Decoded(pixels_of(picture)), seed=0)
        return np.asarray(Image.fromarray(image).convert("L"))[..., None] if grey else image

    read = ahead(prepared, several(pictures), least=batch_size)
    for group in groups_of(read, batch_size):
        images = torch.from_numpy(np.stack(group)).permute(0, 3, 1, 2).to(model.mean.device)
        yield from guess(model, images, top=top)


@torch.no_grad()
def guess(model: Classifier, images: Tensor, *, top: int = 5) -> list[Guesses]:
    """Return the likeliest classes of a batch, ``(B, C, H, W)`` uint8."""
    probabilities = model(model.normalize(images)).softmax(1)
    scores, labels = probabilities.topk(min(top, probabilities.shape[1]))
    return [Guesses(*pair) for pair in zip(scores, labels, strict=True)]


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

"""Classification of pictures as users have them: files and arrays of any size.

``model.predict("cat.jpg")`` comes here.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from backbone.classification.data.augment import EvalTransform
from backbone.specs import NetSpec
from compound.data.images import Decoded
from compound.data.sources import Picture, ahead, groups_of, pixels_of, several


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

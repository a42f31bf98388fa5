"""A regressor: an EfficientNet with one output for each number."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from backbone import EFFICIENTNET, EfficientNet, NetSpec
from backbone.weights import fill, read_weights
from compound.data.sources import Picture, pixels_of, several
from compound.weights import read_file


class Regressor(EfficientNet):
    """Map images to numbers."""

    task = "reg"

    def predict(  # type: ignore[override]
        self, images: Tensor | Picture | Iterable[Picture]
    ) -> list[Tensor]:
        """Return the numbers ``(K,)`` of each image."""
        return list(regress(self, images))


def regress(model: Any, images: Tensor | Picture | Iterable[Picture]) -> Iterable[Tensor]:
    """Yield the numbers of each image; a batch ``(B, 3, H, W)`` uint8 is taken as it is."""
    side = model.spec.image_size
    batches: Iterable[Tensor] = [images] if isinstance(images, Tensor) else (
        torch.from_numpy(resized(pixels_of(image), side)).permute(2, 0, 1)[None]
        for image in several(images)
    )  # fmt: skip
    for batch in batches:
        with torch.no_grad():
            yield from model(model.normalize(batch))


def resized(pixels: np.ndarray, side: int) -> np.ndarray:
    """Return an image as the network sees it."""
    return np.array(Image.fromarray(pixels).resize((side, side)))


def create_model(
    name: str | NetSpec,
    *,
    num_classes: int = 1,
    image_size: int = 64,
    class_names: Sequence[str] | None = None,
    weights: str | Path | None = None,
) -> Regressor:
    """Build a regressor for as many numbers as there are names."""
    spec = replace(EFFICIENTNET[name], image_size=image_size) if isinstance(name, str) else name
    found = None if weights is None else read_weights(weights, spec)
    model = Regressor(spec, num_classes=num_classes)
    model.class_names = None if class_names is None else tuple(class_names)
    if found is not None:
        fill(model, found)
    return model


def load_model(path: str | Path) -> Regressor:
    """Rebuild a regressor from its file."""
    told = read_file(path).metadata
    spec, names = NetSpec.from_dict(told["model"]), told["class_names"]
    return create_model(spec, num_classes=len(names), class_names=names, weights=path)

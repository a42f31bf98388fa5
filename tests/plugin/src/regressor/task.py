"""The task ``reg``: a number from an image."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compound.export.comparison import ONE_BY_ONE, compared_batches
from compound.export.program import Program, sizes, trace
from compound.export.runtime import Opened
from compound.task import Exporter, Predictor, Settings, Task
from compound.weights import metadata_of
from regressor.network import load_model, regress


class Regression(Task):
    """Numbers from images."""

    module = "regressor.module.RegressorModule"

    def fits(self, group: str, settings: Settings) -> bool:
        """Return whether it is of this package."""
        return str(settings.get("_target_")).startswith("regressor.")

    def load(self, path: str | Path) -> Any:
        """Rebuild a regressor."""
        return load_model(path)

    def predictor(
        self,
        model: Any,
        settings: Settings,
        *,
        given: Iterable[str] = (),
        image_ids: Mapping[str, int] | None = None,
    ) -> Predictor:
        """Return what writes numbers."""
        return Numbers(model)

    def exported(self, opened: Opened) -> Any:
        """Return an exported regressor."""
        return Exported(opened)

    def exporter(self, model: Any, settings: Settings, make_data: Callable[..., Any]) -> Exporter:
        """Return what exports a regressor."""
        return RegressorExporter(model, settings, make_data)


class Numbers:
    """A row for each image."""

    columns = ("file", "brightness")

    def __init__(self, model: Any) -> None:
        self.model = model
        self.results: list[dict[str, Any]] = []

    def predict(self, images: Iterable[np.ndarray]) -> Iterator[Tensor]:
        """Yield the number of each image."""
        yield from regress(self.model, images)

    def rows(self, file: str, prediction: Tensor) -> list[tuple[Any, ...]]:
        """Return the row, and keep it."""
        self.results.append({"file_name": file, "brightness": float(prediction[0])})
        return [(file, round(float(prediction[0]), 4))]

    def draw(self, image: np.ndarray, prediction: Tensor) -> np.ndarray:
        """Return the image as it is."""
        return image

    def summary(self) -> Iterator[str]:
        """Yield the first number."""
        for entry in self.results[:1]:
            yield f"{entry['file_name']}: {entry['brightness']:.2f}"


class _Whole(nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (self.network(self.network.normalize(images)),)


class Exported:
    """An exported regressor."""

    def __init__(self, opened: Opened) -> None:
        self.run, told = opened
        self.class_names = told["class_names"]

    def predict(self, images: Tensor) -> list[Tensor]:
        """Return the numbers of each image."""
        return list(self.run(images)[0])


class RegressorExporter:
    """Compares numbers; the score is their mean error."""

    metric = "error"
    higher_is_better = False
    limits: Mapping[str, float] = {"number": 1e-3}
    units: Mapping[str, str] = {}
    fall = 0.05

    def __init__(self, model: Any, settings: Settings, make_data: Callable[..., Any]) -> None:
        self.model, self.settings = model, settings
        self.image_size = model.input[0]
        self.data = make_data(image_size=model.spec.image_size, **ONE_BY_ONE)

    def program(self, *, nms: bool, about: dict[str, Any]) -> Program:
        """Trace the regressor."""
        network = deepcopy(self.model)
        exported = trace(
            _Whole(network).eval(), (1, 3, *self.image_size), any_batch=True, multiple=None
        )
        told = metadata_of(network, **about)
        told |= {"batch_size": None, "sizes": sizes(self.image_size, None)}
        return Program(exported, ("numbers",), told, {})

    def predictions(self, network: Any) -> list[Any]:
        """Return the numbers of each image."""
        found = []
        for batch in compared_batches(self.data, self.settings):
            found += network.predict(batch.images)
        return found

    def differences(self, expected: list[Any], found: list[Any]) -> dict[str, float]:
        """Return the largest difference."""
        return {"number": float((torch.stack(expected) - torch.stack(found)).abs().max())}

    def score(self, predictions: list[Any]) -> float | None:
        """Return the mean error."""
        right = [batch.numbers[0] for batch in compared_batches(self.data, self.settings)]
        return float((torch.stack(right) - torch.stack(predictions)).abs().mean())

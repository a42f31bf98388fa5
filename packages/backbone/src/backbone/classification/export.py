"""Classifiers as programs, and such a program used like the network it was made from."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from backbone.classification.predictor import Guesses, classify, guess
from backbone.efficientnet import EfficientNet
from backbone.specs import NetSpec
from compound.data.sources import Picture
from compound.export.folding import fold
from compound.export.program import Program, sizes, trace
from compound.export.runtime import Opened, open_program
from compound.task import check_task
from compound.weights import metadata_of

# Of the trunk's last level.
_MULTIPLE = 32


class _Logits(nn.Module):
    """From uint8 pictures to logits."""

    def __init__(self, network: EfficientNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (self.network(self.network.normalize(images)),)


def classifier_program(
    model: EfficientNet,
    *,
    image_size: int | None = None,
    batch_size: int | None = None,
    any_size: bool = False,
    metrics: Mapping[str, float] | None = None,
    license: str | None = None,
) -> Program:
    """Trace a classifier: uint8 pictures ``(B, C, H, W)`` -> ``logits`` ``(B, K)``.

    Args:
        model: stays as it is.
        image_size: side of the pictures; None for the spec's.
        batch_size: how many of them at a time; None for any number.
        any_size: whether height and width may be any multiples of 32 from 64 on.
        metrics: see `metadata_of`.
        license: see `metadata_of`.

    Raises:
        UserError: see `trace`.
    """
    network = deepcopy(model).cpu()
    fold(network)
    size = image_size or model.spec.image_size
    network.spec = replace(model.spec, image_size=size)
    shape = (batch_size or 1, len(model.mean), size, size)
    multiple = _MULTIPLE if any_size else None
    exported = trace(
        _Logits(network).eval(),
        shape,
        any_batch=batch_size is None,
        multiple=multiple,
    )
    metadata = metadata_of(network, metrics=metrics, license=license)
    metadata |= {"batch_size": batch_size, "sizes": sizes((size, size), multiple)}
    return Program(exported, ("logits",), metadata, {})


def load_exported(path: str | Path) -> "ExportedClassifier":
    """Open an exported classifier, ``.onnx``, ``.xml`` or ``.pt2``.

    Raises:
        UserError: see `open_program`; or it is of another task.
    """
    opened = open_program(path)
    check_task(opened.metadata, ExportedClassifier.task, path)
    return ExportedClassifier(opened)


class ExportedClassifier:
    """A program of `classifier_program`, with what `EfficientNet` has for looking at pictures.

    Args:
        opened: see `open_program`.

    Attributes:
        spec: the network's.
        class_names: names of the classes, where they are known.
        mean: zeros ``(C, 1, 1)``: preprocessing is part of the program.
    """

    task = "cls"

    def __init__(self, opened: Opened) -> None:
        self.run, told = opened
        self.spec = NetSpec.from_dict(told["model"])
        names = told["class_names"]
        self.class_names: tuple[str, ...] | None = None if names is None else tuple(names)
        self.num_classes: int = told["num_classes"]
        self.mean = torch.zeros(told["in_channels"], 1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        """Map uint8 pictures ``(B, C, H, W)`` to logits ``(B, K)``."""
        return self.run(images)[0]

    def normalize(self, images: Tensor) -> Tensor:
        """Return the pictures as they are."""
        return images

    def predict(
        self,
        images: Tensor | Picture | Iterable[Picture],
        *,
        batch_size: int = 1,
        top: int = 5,
    ) -> list[Guesses]:
        """Return the likeliest classes, as `EfficientNet.predict` does."""
        if isinstance(images, Tensor):
            return guess(self, images, top=top)
        return list(classify(self, images, batch_size=batch_size, top=top))

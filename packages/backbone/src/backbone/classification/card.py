"""What a model card says of a classifier."""

from collections.abc import Iterator, Mapping
from typing import Any

from backbone.specs import NetSpec
from compound.task import Card

# Beginnings of names -> the paper, the longest first.
_PAPERS: dict[str, dict[str, str]] = {
    "efficientnetv2": {
        "author": "Mingxing Tan and Quoc V. Le",
        "title": "EfficientNetV2: Smaller Models and Faster Training",
        "booktitle": "ICML",
        "year": "2021",
        "url": "https://arxiv.org/abs/2104.00298",
    },
    "efficientnet": {
        "author": "Mingxing Tan and Quoc V. Le",
        "title": "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
        "booktitle": "ICML",
        "year": "2019",
        "url": "https://arxiv.org/abs/1905.11946",
    },
}


def classifier_card(metadata: Mapping[str, Any]) -> Card:
    """Return the card of a classifier.

    Args:
        metadata: see `compound.weights.metadata_of`.
    """
    return Card(
        pipeline="image-classification",
        kind="image classifier",
        rows=() if NetSpec.stored(metadata) is None else tuple(_rows(metadata["model"])),
        example='guesses = model.predict("cat.jpg", top=5)[0]',
        preparation=_preparation(metadata),
        papers=papers_of(metadata["architecture"]),
    )


def papers_of(architecture: str) -> dict[str, dict[str, str]]:
    """Return the paper of a network by its name, none for a stranger's."""
    family = next((key for key in _PAPERS if architecture.startswith(key)), None)
    return {} if family is None else {family: _PAPERS[family]}


def _rows(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    layers = sum(stage["layers"] for stage in spec["stages"])
    yield "stages", f"{len(spec['stages'])} with {layers} blocks"
    yield "features", str(spec["head"])


def _preparation(metadata: Mapping[str, Any]) -> str:
    told, (height, width) = metadata["preprocessing"], metadata["image_size"]
    size, method = f"{height} x {width} pixels (height x width)", told["interpolation"]
    if told["crop"] is None:
        return f"Scaled to {size} whatever their shape ({method})"
    return f"A centre square of {told['crop']:.4g} of the short side, scaled to {size} ({method})"

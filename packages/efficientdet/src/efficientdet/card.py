"""What a model card says of a detector."""

from collections.abc import Iterator, Mapping
from typing import Any

from backbone.classification.card import papers_of
from compound.task import Card

_PAPER = {
    "author": "Mingxing Tan and Ruoming Pang and Quoc V. Le",
    "title": "EfficientDet: Scalable and Efficient Object Detection",
    "booktitle": "CVPR",
    "year": "2020",
    "url": "https://arxiv.org/abs/1911.09070",
}


def detector_card(metadata: Mapping[str, Any]) -> Card:
    """Return the card of a detector from what `compound.weights.metadata_of` says of it."""
    spec = metadata["model"]
    return Card(
        pipeline="object-detection",
        kind="object detector",
        rows=tuple(_rows(spec)),
        example=('boxes, scores, labels = model.predict("street.jpg", score_threshold=0.3)[0]'),
        preparation=_preparation(metadata),
        papers={"efficientdet": _PAPER, **papers_of(_backbone_name(spec))},
    )


def _backbone_name(spec: Mapping[str, Any]) -> str:
    backbone = spec["backbone"]
    return backbone["name"] if isinstance(backbone, dict) else backbone


def _rows(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "backbone", _backbone_name(spec)
    cells, channels = spec["fpn_cells"], spec["fpn_channels"]
    yield "BiFPN", f"{cells} cells, {channels} channels, {spec['fusion']} fusion"
    levels = f"levels {spec['min_level']} to {spec['max_level']}"
    yield "heads", f"{spec['head_repeats']} layers, {levels}"
    aspects = spec["aspects"]
    sides = aspects if isinstance(aspects, str) else ", ".join(f"{side:g}" for side in aspects)
    octaves = ", ".join(f"{side:.4g}" for side in spec["octaves"])
    yield "anchors", f"scale {spec['anchor_scale']:g}, octaves {octaves}, aspects {sides}"


def _preparation(metadata: Mapping[str, Any]) -> str:
    told, (height, width) = metadata["preprocessing"], metadata["image_size"]
    return (
        f"Scaled until they fit into {height} x {width} pixels (height x width) "
        f"({told['interpolation']}, antialiased), and filled with RGB {told['pad_colour']} at the "
        "bottom and right"
    )

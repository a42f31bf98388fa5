"""Detectors by name."""

from collections.abc import Sequence
from pathlib import Path

from backbone import Pyramid
from backbone.errors import closest
from backbone.weights import load_weights
from efficientdet.efficientdet import EfficientDet
from efficientdet.specs import EFFICIENTDET


def list_models() -> list[str]:
    """Return the names that `create_model` knows."""
    return list(EFFICIENTDET)


def create_model(
    name: str,
    *,
    num_classes: int = 90,
    image_size: int | Sequence[int] | None = None,
    backbone: Pyramid | None = None,
    weights: str | Path | None = None,
) -> EfficientDet:
    """Build a published EfficientDet.

    Args:
        name: one of `list_models`.
        num_classes: number of classes; 90 for the published COCO heads.
        image_size: side of the pictures it is used at, or height and width; the published side by
            default.
        backbone: a feature pyramid in place of the variant's own.
        weights: path of a file written by this project, or None for random weights. Public
            weights (``"coco"``) are still to come.

    Raises:
        UserError: the name is unknown or the weights do not fit.
    """
    model = EfficientDet(
        EFFICIENTDET[closest(name, EFFICIENTDET, what="model")],
        num_classes=num_classes,
        image_size=image_size,
        pyramid=backbone,
    )
    if weights is not None:
        load_weights(model, weights, name=name)
    return model

"""Classifiers by name."""

from pathlib import Path

from backbone.efficientnet import EfficientNet
from backbone.errors import closest
from backbone.specs import EFFICIENTNET
from backbone.weights import load_weights


def list_models() -> list[str]:
    """Return the names that `create_model` knows."""
    return list(EFFICIENTNET)


def create_model(
    name: str,
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    weights: str | Path | None = None,
) -> EfficientNet:
    """Build a published EfficientNet.

    Args:
        name: one of `list_models`.
        num_classes: number of logits.
        in_channels: channels of the input pictures.
        weights: path of a file written by this project, or None for random weights.

    Raises:
        UserError: the name is unknown or the weights do not fit.
    """
    model = EfficientNet(
        EFFICIENTNET[closest(name, EFFICIENTNET, what="model")],
        num_classes=num_classes,
        in_channels=in_channels,
    )
    if weights is not None:
        load_weights(model, weights, name=name)
    return model

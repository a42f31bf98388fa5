"""EfficientNetV2 by name or by spec."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import backbone
from backbone import EfficientNet, NetSpec
from backbone.models import load_model as load_model
from compound.errors import closest
from efficientnetv2.specs import EFFICIENTNETV2

# The official `preprocess_for_eval` looks at whole pictures from this size on, and below cuts off
# a border that follows ImageNet's.
SQUASHED_FROM = 320
CROP_BORDER = 32


def list_models() -> list[str]:
    """Return the names that `create_model` knows."""
    return list(EFFICIENTNETV2)


def create_model(
    name: str | NetSpec,
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    weights: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    **changes: Any,
) -> EfficientNet:
    """Build an EfficientNetV2; see `backbone.create_model`, which this differs from in its names.

    Args:
        name: one of `list_models`, or a spec.
        num_classes: number of logits.
        in_channels: channels of the input pictures.
        weights: where to take the weights from; None for random ones.
        class_names: names of the classes in the order of the logits.
        changes: fields of the spec to replace.

    Raises:
        UserError: the name is unknown, or the weights cannot be read or do not fit.
    """
    if isinstance(name, str):
        name = EFFICIENTNETV2[closest(name, EFFICIENTNETV2, what="model")]
    size = changes.get("image_size", name.image_size)
    if name.preprocessing.crop is None and size < SQUASHED_FROM:
        cropped = replace(name.preprocessing, crop=size / (size + CROP_BORDER))
        changes = {"preprocessing": cropped} | changes
    return backbone.create_model(
        name,
        num_classes=num_classes,
        in_channels=in_channels,
        weights=weights,
        class_names=class_names,
        **changes,
    )

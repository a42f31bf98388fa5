"""What weights say of themselves, as plain values that travel inside their file."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import nn

from compound.errors import UserError

_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]*")


def metadata_of(
    model: nn.Module,
    *,
    metrics: Mapping[str, float] | None = None,
    license: str | None = None,
) -> dict[str, Any]:
    """Return all that using a network without this project takes, as JSON has it.

    The keys: ``architecture``, its name; ``model``, the whole spec; ``num_classes`` and
    ``class_names`` in the order of the outputs, None where they are not known; ``in_channels``;
    ``image_size``, height and width; ``preprocessing``; ``metrics``; ``license``.

    ``preprocessing`` has ``mean`` and ``std`` a channel on the scale 0..255, ``interpolation`` and
    ``crop`` as in `Preprocessing`. That of a detector also has ``pad_colour``: pictures are
    scaled until they fit and filled with this RGB at the bottom and right.

    Args:
        model: an `EfficientNet`, or a detector, which differs by its ``pad_colour``.
        metrics: scores by their names, such as ``val/top1``.
        license: an identifier such as ``apache-2.0``.

    Raises:
        UserError: a score is no finite number, or the licence no identifier.
    """
    network: Any = model
    detects = hasattr(network, "pad_colour")
    told = network.preprocessing if detects else network.spec.preprocessing
    preprocessing = asdict(told)
    channels = len(network.mean)
    if channels != len(told.mean):  # the network spreads them over its channels
        preprocessing |= {key: getattr(network, key).flatten().tolist() for key in ("mean", "std")}
    size = network.spec.image_size
    if detects:
        size = network.image_size
        preprocessing |= {"interpolation": "bilinear", "crop": None}
        preprocessing["pad_colour"] = network.pad_colour
    names = network.class_names
    plain = {
        "architecture": network.spec.name,
        "model": network.spec.to_dict(),
        "num_classes": network.num_classes,
        "class_names": names,
        "in_channels": channels,
        "image_size": size if detects else (size, size),
        "preprocessing": preprocessing,
        "metrics": _checked(metrics),
        "license": license,
    }
    if license is not None and not _LICENSE.fullmatch(license):
        raise UserError(
            f"license={license}: expected an identifier of the Hugging Face hub, such as "
            "apache-2.0, cc-by-4.0 or other"
        )
    return json.loads(json.dumps(plain))


def _checked(metrics: Mapping[str, float] | None) -> dict[str, float] | None:
    for name, value in (metrics or {}).items():
        if not math.isfinite(value):
            raise UserError(f"metrics: {name}={value} is no finite number; leave it out")
    return {name: float(value) for name, value in metrics.items()} if metrics else None

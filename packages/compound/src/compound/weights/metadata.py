"""What weights say of themselves, as plain values that travel inside their file."""

import json
import math
import re
from collections.abc import Mapping
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

    ``task`` is the name of the network's task; ``image_size`` and ``preprocessing`` are the
    network's `HubMixin.input`.

    Args:
        model: a network with `compound.hub.HubMixin`.
        metrics: scores by their names, such as ``val/top1``.
        license: an identifier such as ``apache-2.0``.

    Raises:
        UserError: a score is no finite number, or the licence no identifier.
    """
    for name, value in (metrics or {}).items():
        if not math.isfinite(value):
            raise UserError(f"metrics: {name}={value} is no finite number; leave it out")
    network: Any = model
    size, preprocessing = network.input
    plain = {
        "task": network.task,
        "architecture": network.spec.name,
        "model": network.spec.to_dict(),
        "num_classes": network.num_classes,
        "class_names": network.class_names,
        "in_channels": len(network.mean),
        "image_size": size,
        "preprocessing": preprocessing,
        "metrics": {name: float(value) for name, value in metrics.items()} if metrics else None,
        "license": license,
    }
    if license is not None and not _LICENSE.fullmatch(license):
        raise UserError(
            f"license={license}: expected an identifier of the Hugging Face hub, such as "
            "apache-2.0, cc-by-4.0 or other"
        )
    return json.loads(json.dumps(plain))

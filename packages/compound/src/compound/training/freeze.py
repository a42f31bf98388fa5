"""Parts of a network that do not learn."""

import re
from collections.abc import Sequence

from torch import nn

from compound.errors import UserError

# Layers that keep running statistics; the second is not a subclass of the first.
Norm = nn.BatchNorm2d | nn.SyncBatchNorm


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Keep layers from learning: no gradients, and batch norms with the statistics they have.

    Args:
        model: the network.
        patterns: parts of layers' dotted names, such as ``stem``, ``trunk``, ``stages.0-4`` (a
            range), ``stages.6.*.depthwise`` (any name in a place). What is inside is frozen too.

    Raises:
        UserError: a pattern fits no layer, or nothing is left to learn.
    """
    patterns = [patterns] if isinstance(patterns, str) else patterns
    for pattern in patterns:
        fitting = [
            layer
            for name, layer in model.named_modules()
            if re.search(rf"(^|\.){_to_regex(pattern)}$", name)
        ]
        if not fitting:
            raise UserError(
                f"freeze={pattern} fits no layer; there are "
                f"{', '.join(_shallow_names(model))}, and what is inside them"
            )
        for layer in fitting:
            layer.requires_grad_(False)
            for norm in layer.modules():
                if isinstance(norm, Norm):
                    norm.eval()
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError(f"freeze={','.join(patterns)}: nothing is left to learn")


def _to_regex(pattern: str) -> str:
    return r"\.".join(_part(part) for part in pattern.split("."))


def _part(part: str) -> str:
    found = re.fullmatch(r"(\d+)-(\d+)", part)
    if found:
        numbers = range(int(found[1]), int(found[2]) + 1)
        return f"({'|'.join(map(str, numbers))})"
    return re.escape(part).replace(r"\*", r"[^.]+")


def _shallow_names(model: nn.Module) -> list[str]:
    """Return the names of layers down to two levels that have parameters."""
    names = [name for name, layer in model.named_modules() if list(layer.parameters())]
    return [name for name in names if name and name.count(".") < 2]

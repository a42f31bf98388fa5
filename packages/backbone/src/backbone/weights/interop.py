"""Classifiers' weights as others name them: what `read_weights` reads, written."""

from typing import TYPE_CHECKING

import timm
from torch import Tensor

from backbone.pyramid import find_backbone
from backbone.specs import NetSpec
from backbone.weights.layer_names import layer_names
from compound.errors import UserError

if TYPE_CHECKING:
    from backbone.efficientnet import EfficientNet

# Padding and epsilon -> what timm puts before its name of a network that has them.
_TIMM_PREFIXES = {("same", 1e-3): "tf_", ("symmetric", 1e-5): ""}


def timm_name(spec: NetSpec) -> str:
    """Return the name by which timm builds a network.

    Raises:
        UserError: it has none of this table, or none that pads and normalises as this one does.
    """
    prefix = _TIMM_PREFIXES.get((spec.style.padding, spec.style.bn_eps))
    name = f"{prefix}{spec.name}"
    if prefix is None or not timm.is_model(name) or not is_published(spec):
        raise UserError(
            f"timm has no network such as this {spec.name} with padding={spec.style.padding} and "
            f"bn_eps={spec.style.bn_eps:g}; write it with format=safetensors"
        )
    return name


def to_timm(model: "EfficientNet") -> dict[str, Tensor]:
    """Return a classifier's state under timm's names, for ``timm_name(model.spec)``.

    Raises:
        UserError: see `timm_name`.
    """
    timm_name(model.spec)
    theirs = {layer.ours: layer.timm for layer in layer_names(model.spec)}
    return _renamed(model, theirs)


def to_official(model: "EfficientNet") -> dict[str, Tensor]:
    """Return a classifier's state as `read_checkpoint` names official ones.

    Raises:
        UserError: the official code knows no such network.
    """
    spec = model.spec
    check_official(spec)
    prefix = official_name(spec)
    theirs = {layer.ours: f"{prefix}/{layer.tensorflow}" for layer in layer_names(spec)}
    return _renamed(model, theirs)


def official_name(spec: NetSpec) -> str:
    """Return what is before the official name of every layer, but for the slash."""
    return spec.name.replace("_", "-")


def check_official(spec: NetSpec) -> None:
    """Refuse what the official code cannot build.

    Raises:
        UserError: the network is none of the published ones, or has others' padding or epsilon.
    """
    if not is_published(spec) or (spec.style.padding, spec.style.bn_eps) != ("same", 1e-3):
        raise UserError(
            f"the official code has no network such as this {spec.name} with "
            f"padding={spec.style.padding} and bn_eps={spec.style.bn_eps:g}; write it with "
            "format=safetensors"
        )


def is_published(spec: NetSpec) -> bool:
    """Return whether a published network of this name has these layers."""
    try:
        published = find_backbone(spec.name)
    except UserError:
        return False
    return isinstance(published, NetSpec) and published.same_network(spec)


def _renamed(model: "EfficientNet", layers: dict[str, str]) -> dict[str, Tensor]:
    state = {}
    for name, value in model.state_dict().items():
        layer, _, parameter = name.rpartition(".")
        state[f"{layers[layer]}.{parameter}"] = value
    return state

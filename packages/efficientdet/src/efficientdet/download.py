"""Where detectors' public weights live: effdet's releases of Google's, by variant."""

from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit

import torch

from backbone.specs import Preprocessing
from compound.errors import UserError
from efficientdet.specs import DetSpec

COCO = "coco"
ADVPROP = "advprop"
_RELEASE = "https://github.com/rwightman/efficientdet-pytorch/releases/download/v0.1/"
_OFFICIAL = "https://storage.googleapis.com/cloud-tpu-checkpoints/efficientdet/"

# File names end with the first eight digits of the file's SHA-256.
_COCO_FILES = {
    "d0": "d0_34-f153e0cf", "d1": "d1_40-a30f94af", "d2": "d2_43-8107aa99",
    "d3": "d3_47-0b525f35", "d4": "d4_49-f56376d9", "d5": "d5_51-c79f9be6",
    "d6": "d6_52-4eda3773", "d7": "d7_53-6d1d7a95", "d7x": "d7x-f390b87c",
    "lite0": "lite0-dfacfc78", "lite1": "lite1-6dc7ab30", "lite2": "lite2-86c5d55b",
    "lite3": "lite3-506852cb", "lite3x": "lite3x-8404c57b", "lite4": "lite4-391ddabc",
}  # fmt: skip
_ADVPROP_FILES = {
    "d0": "d0_ap-d0cdbd0a", "d1": "d1_ap-7721d075", "d2": "d2_ap-a2995c19",
    "d3": "d3_ap-e4a2feab", "d4": "d4_ap-f601a5fc", "d5": "d5_ap-3673ae5d",
}  # fmt: skip
# Det-AdvProp scales pictures to -1..1 (official `Det-AdvProp.md`).
_ADVPROP_INPUT = Preprocessing(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))


def locate(source: str | Path, spec: DetSpec) -> tuple[Path, Preprocessing | None]:
    """Return the file that ``source`` means, and the preprocessing it needs if not the spec's.

    Downloads go where ``torch.hub`` keeps checkpoints, and their checksum is verified.

    Args:
        source: a path, or ``coco`` or ``advprop``: Google's weights of the variant.
        spec: the variant.

    Raises:
        UserError: there are no such weights, or they cannot be fetched.
    """
    path = Path(source).expanduser()
    files = {COCO: _COCO_FILES, ADVPROP: _ADVPROP_FILES}.get(str(source))
    if files is None:
        if str(source) in ("imagenet", "package"):
            raise UserError(
                f"weights={source} are a classifier's; give them as backbone_weights={source}, or "
                "take weights=coco"
            )
        return path, _ADVPROP_INPUT if _is_advprop(path) else None
    variant = spec.name.removeprefix("efficientdet_")
    if variant not in files:
        raise UserError(
            f"weights={source}: there are no such weights of {variant}; they exist for "
            f"{', '.join(files)}"
        )
    try:
        found = _download(f"{_RELEASE}tf_efficientdet_{files[variant]}.pth")
    except (URLError, OSError, RuntimeError) as error:  # no network, a full disk, a wrong checksum
        raise UserError(
            f"weights={source}: {_RELEASE}tf_efficientdet_{files[variant]}.pth could not be "
            f"fetched ({error}); fetch it elsewhere and put it into {_folder()}, or give its path "
            f"as weights=<file>, or the unpacked {official_archive(variant)}"
        ) from error
    return found, _ADVPROP_INPUT if source == ADVPROP else None


def is_public(source: str | Path) -> bool:
    """Return whether ``source`` is no file but the name of public weights."""
    return str(source) in (COCO, ADVPROP)


def official_archive(variant: str) -> str:
    """Return the address of a variant's official checkpoint, an archive to unpack."""
    if variant.startswith("lite"):
        return f"{_OFFICIAL}coco/efficientdet-{variant}.tgz"
    return f"{_OFFICIAL}coco2/efficientdet-{variant}.tar.gz"


def _is_advprop(path: Path) -> bool:
    return any(path.name == f"tf_efficientdet_{name}.pth" for name in _ADVPROP_FILES.values())


def _folder() -> Path:
    return Path(torch.hub.get_dir(), "checkpoints")


def _download(url: str) -> Path:
    path = _folder() / Path(urlsplit(url).path).name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = path.stem.rpartition("-")[2]
        torch.hub.download_url_to_file(url, str(path), hash_prefix=digest, progress=True)
    return path

"""Reading and writing tensors: safely, completely, or not at all."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from backbone.errors import UserError
from backbone.weights.tensorflow import find_checkpoint, read_checkpoint

# A Lightning checkpoint holds the network under this attribute of its module.
_MODULE_PREFIX = "model."
# Where our .safetensors keep what a checkpoint has as hyper-parameters.
_METADATA_KEY = "compound"


@dataclass(frozen=True, slots=True)
class Content:
    """What a file holds.

    Attributes:
        tensors: by the file's own names.
        metadata: what our files say of themselves: ``model`` and ``class_names``, as plain values.
        official: whether they come from the official TensorFlow code (see `read_checkpoint`).
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, Any] = field(default_factory=dict)
    official: bool = False

    @property
    def name(self) -> str | None:
        """Return the architecture's name, where the file says so."""
        return self.metadata.get("model", {}).get("name")


def read_file(path: str | Path) -> Content:
    """Read tensors from a file.

    Takes ``.safetensors``, torch's ``.pth`` and the like, a run's ``.ckpt``, and official
    TensorFlow checkpoints. Nothing is ever unpickled but tensors and plain values.

    Raises:
        UserError: the file is missing, damaged, or holds no tensors.
    """
    path = Path(path).expanduser()
    checkpoint = find_checkpoint(path)
    if checkpoint is not None:
        return Content(read_checkpoint(checkpoint), official=True)
    if not path.is_file():
        raise UserError(
            f"weights={path}: there is no such file; give the path of a checkpoint or of a "
            ".safetensors or .pth file"
        )
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (str(error) or repr(error)).splitlines()[0]
        if isinstance(error, UnpicklingError):  # torch would advise to load it unsafely
            reason = "it is damaged, or holds more than tensors and plain values"
        raise UserError(f"weights={path}: this file cannot be read as weights: {reason}") from error
    metadata: dict[str, Any] = {}
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        metadata = content.get("hyper_parameters", {})
        if not isinstance(metadata, dict) or not isinstance(metadata.get("model"), dict):
            metadata = {}  # another project's
        content = content["state_dict"]
        ours = {
            key.removeprefix(_MODULE_PREFIX): value
            for key, value in content.items()
            if isinstance(key, str) and key.startswith(_MODULE_PREFIX)
        }
        content = ours or content
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise UserError(f"weights={path}: expected a dictionary of tensors or a run's checkpoint.")
    return Content(content, metadata)


def load_weights(model: nn.Module, path: str | Path, *, name: str) -> None:
    """Fill ``model``, the variant ``name``, with the tensors of ``path``; all of them must fit.

    Args:
        model: the network.
        path: the file.
        name: the variant. A run's checkpoint knows its own, and variants can differ without a
            tensor that does (EfficientDet D6 and D7).

    Raises:
        UserError: a tensor is missing, unknown, or of another shape; the file is of another
            variant; see also `read_file`.
    """
    content = read_file(path)
    if content.name not in (None, name):
        raise UserError(f"weights={path} were trained as {content.name}; they do not fit {name}")
    misfits = find_misfits(model, content.tensors)
    if misfits:
        raise UserError(misfit_message(path, misfits, len(model.state_dict())))
    model.load_state_dict(content.tensors)


def find_misfits(model: nn.Module, tensors: dict[str, Tensor]) -> list[str]:
    """Return what keeps ``tensors`` from filling ``model``, one sentence a tensor."""
    own = model.state_dict()
    misfits = [f"{key} is missing" for key in own.keys() - tensors.keys()]
    misfits += [f"{key} is unknown" for key in tensors.keys() - own.keys()]
    misfits += [
        f"{key} is {tuple(tensors[key].shape)}, not {tuple(own[key].shape)}"
        for key in own.keys() & tensors.keys()
        if tensors[key].shape != own[key].shape
    ]
    return misfits


def misfit_message(source: str | Path, misfits: list[str], total: int) -> str:
    """Return how a user is told that weights are of another architecture."""
    return (
        f"weights={source} belong to another network: {len(misfits)} of {total} tensors do "
        f"not fit, such as {min(misfits)}. Name the model that they were trained as."
    )


def save_weights(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write ``.safetensors`` that `read_file` understands.

    Args:
        path: the file.
        tensors: the network's state.
        metadata: a checkpoint's hyper-parameters, plain values.
    """
    state = {key: value.contiguous() for key, value in tensors.items()}
    save_file(state, path, metadata={_METADATA_KEY: json.dumps(metadata)})


def _read_safetensors(path: Path) -> Content:
    with safe_open(path, framework="pt") as file:
        metadata = (file.metadata() or {}).get(_METADATA_KEY, "{}")
        return Content({key: file.get_tensor(key) for key in file.keys()}, json.loads(metadata))  # noqa: SIM118

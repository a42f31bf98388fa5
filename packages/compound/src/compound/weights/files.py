"""Reading and writing tensors: safely, completely, or not at all."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from compound.errors import UserError
from compound.weights.pretrained import HUB_PREFIX, is_repository, pretrained_file
from compound.weights.tensorflow import find_checkpoint, read_checkpoint

# A Lightning checkpoint holds the network under this attribute of its module.
_MODULE_PREFIX = "model."
# Where our .safetensors keep what a checkpoint has as hyper-parameters.
_METADATA_KEY = "compound"


@dataclass(frozen=True, slots=True)
class Content:
    """What a file holds.

    Attributes:
        tensors: by the file's own names.
        metadata: what our files say of themselves, see `metadata_of`; a run's checkpoints have
            ``model``, ``class_names`` and, of what its monitor scored best, ``metrics``.
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

    Takes ``.safetensors``, torch's ``.pth`` and the like, a run's ``.ckpt``, official TensorFlow
    checkpoints, and what `pretrained_file` takes. Nothing is ever unpickled but tensors and plain
    values.

    Raises:
        UserError: the file is missing, damaged, or holds no tensors; see also `pretrained_file`.
    """
    path = pretrained_file(path) or Path(path).expanduser()
    checkpoint = find_checkpoint(path)
    if checkpoint is not None:
        return Content(read_checkpoint(checkpoint), official=True)
    if not path.is_file():
        ours = path.parent.is_dir() or path.suffix in (".ckpt", ".safetensors", ".pth", ".pt")
        hub = is_repository(str(path)) and not ours
        raise UserError(
            f"weights={path}: there is no such file; give the path of a checkpoint or of a "
            f".safetensors or .pth file{f', or {HUB_PREFIX}{path} for the hub' if hub else ''}"
        )
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = f"it is damaged or no file of weights; fetch it again ({type(error).__name__})"
        if path.stat().st_size == 0:
            reason = "it is empty; fetch it again"
        if isinstance(error, UnpicklingError):  # torch would advise to load it unsafely
            reason = "it is damaged, or holds more than tensors and plain values"
        raise UserError(f"weights={path}: this file cannot be read as weights: {reason}") from error
    metadata: dict[str, Any] = {}
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        metadata = content.get("hyper_parameters", {})
        if not isinstance(metadata, dict) or not isinstance(metadata.get("model"), dict):
            metadata = {}  # another project's
        elif metrics := _best_score(content.get("callbacks"), path.name):
            metadata = {**metadata, "metrics": metrics}
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


def check_fit(
    own: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    *,
    source: str | Path,
    optional: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Return the names that a network has and ``tensors`` have not.

    Args:
        own: the network's state.
        tensors: what is to fill it.
        source: where they are from, for the message.
        optional: beginnings of names that may be missing, as counters of batch norms always may.

    Raises:
        UserError: another name is missing, or one is unknown or of another shape.
    """
    missing = [k for k in own if k not in tensors and not k.endswith("num_batches_tracked")]
    misfits = [f"{name} is missing" for name in missing if not name.startswith(optional)]
    misfits += [f"{name} is unknown" for name in tensors if name not in own]
    misfits += [
        f"{name} is {tuple(value.shape)}, not {tuple(own[name].shape)}"
        for name, value in tensors.items()
        if name in own and value.shape != own[name].shape
    ]
    if misfits:
        raise UserError(
            f"weights={source} belong to another network: {len(misfits)} of {len(own)} tensors do "
            f"not fit, such as {min(misfits)}. Name the model that they were trained as."
        )
    return tuple(missing)


def save_weights(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write ``.safetensors`` that `read_file` understands.

    Args:
        path: the file.
        tensors: the network's state.
        metadata: see `metadata_of`; a checkpoint's hyper-parameters do as well.
    """
    state = {key: value.contiguous() for key, value in tensors.items()}
    save_file(state, path, metadata={_METADATA_KEY: json.dumps(metadata)})
    # safetensors lets nobody but the writer read it; colleagues may, as any other file.
    mask = os.umask(0)
    os.umask(mask)
    Path(path).chmod(0o666 & ~mask)


def _best_score(callbacks: Any, file_name: str) -> dict[str, float] | None:
    """Return the score of the file that a run's ``ModelCheckpoint`` last took for the best.

    ``last.ckpt`` holds the same state, but that score is another epoch's.
    """
    for state in callbacks.values() if isinstance(callbacks, dict) else ():
        if isinstance(state, dict) and "/" in str(state.get("monitor")):
            score = state.get("best_model_score")
            chosen = Path(state.get("best_model_path") or "").name == file_name
            if chosen and score is not None and math.isfinite(score):
                return {str(state["monitor"]): float(score)}
    return None


def _read_safetensors(path: Path) -> Content:
    with safe_open(path, framework="pt") as file:
        metadata = (file.metadata() or {}).get(_METADATA_KEY, "{}")
        return Content({key: file.get_tensor(key) for key in file.keys()}, json.loads(metadata))  # noqa: SIM118

"""Reading and writing files of tensors: safely, completely, or not at all."""

import json
import math
import os
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

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Return the names of the classes in the order of the outputs, where the file has them."""
        names = self.metadata.get("class_names")
        return tuple(names) if names else None

    @property
    def num_classes(self) -> int | None:
        """Return the number of classes, where the file says so."""
        return len(self.class_names) if self.class_names else self.metadata.get("num_classes")


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
        raise UserError(_missing(path))
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"weights={path}: this file cannot be read as weights: {_reason(path, error)}"
        ) from error
    return _content_of(stored, path)


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


def _missing(path: Path) -> str:
    ours = path.parent.is_dir() or path.suffix in (".ckpt", ".safetensors", ".pth", ".pt")
    hub = is_repository(str(path)) and not ours
    return (
        f"weights={path}: there is no such file; give the path of a checkpoint or of a "
        f".safetensors or .pth file{f', or {HUB_PREFIX}{path} for the hub' if hub else ''}"
    )


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, UnpicklingError):  # torch would advise to load it unsafely
        return "it is damaged, or holds more than tensors and plain values"
    if path.stat().st_size == 0:
        return "it is empty; fetch it again"
    return f"it is damaged or no file of weights; fetch it again ({type(error).__name__})"


def _content_of(stored: Any, path: Path) -> Content:
    """Return what a file by torch holds: a state, or a checkpoint with one in it."""
    tensors, metadata = stored, {}
    if isinstance(stored, dict) and isinstance(stored.get("state_dict"), dict):
        tensors, metadata = stored["state_dict"], _run_metadata(stored, path.name)
        ours = {
            key.removeprefix(_MODULE_PREFIX): value
            for key, value in tensors.items()
            if isinstance(key, str) and key.startswith(_MODULE_PREFIX)
        }
        tensors = ours or tensors
    if not isinstance(tensors, dict) or not all(isinstance(v, Tensor) for v in tensors.values()):
        raise UserError(f"weights={path}: expected a dictionary of tensors or a run's checkpoint.")
    return Content(tensors, metadata)


def _run_metadata(checkpoint: dict[str, Any], file_name: str) -> dict[str, Any]:
    """Return what a run's checkpoint says of its network; nothing if it is another project's."""
    metadata = checkpoint.get("hyper_parameters")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("model"), dict):
        return {}
    metrics = _best_score(checkpoint.get("callbacks"), file_name)
    return {**metadata, "metrics": metrics} if metrics else metadata


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

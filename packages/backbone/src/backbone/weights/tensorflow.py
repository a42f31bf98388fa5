"""Official TensorFlow checkpoints, brought into torch's layout.

A checkpoint is a pair ``<prefix>.index`` and ``<prefix>.data-...``; TensorFlow itself reads it (the
extra ``tensorflow``). An ``.npz`` archive of variables by their names needs nothing.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from backbone.errors import UserError

_AVERAGE = "/ExponentialMovingAverage"
# What an optimizer keeps, and counters.
_NOT_WEIGHTS = re.compile(r"(/RMSProp(_1)?|/Momentum|/Adam(_1)?|(^|/)global_step|_CHECKPOINT.*)$")
# A variable's last name -> the parameter's name in torch, and the axes of its kernel.
_LEAVES: dict[str, tuple[str, tuple[int, ...] | None]] = {
    "kernel": ("weight", (3, 2, 0, 1)),
    "depthwise_kernel": ("weight", (2, 3, 0, 1)),
    "pointwise_kernel": ("weight", (3, 2, 0, 1)),
    "gamma": ("weight", None),
    "beta": ("bias", None),
    "bias": ("bias", None),
    "moving_mean": ("running_mean", None),
    "moving_variance": ("running_var", None),
}


class _Reader(Protocol):
    def get_variable_to_shape_map(self) -> dict[str, list[int]]: ...

    def get_tensor(self, name: str) -> np.ndarray: ...


def find_checkpoint(path: Path) -> Path | None:
    """Return the ``.npz`` or the prefix of a checkpoint that ``path`` names, or None.

    A checkpoint may be named by its prefix, by any of its files, or by its folder.

    Raises:
        UserError: a folder holds several checkpoints.
    """
    if path.suffix == ".npz" and path.is_file():
        return path
    if path.is_dir():
        found = sorted(path.glob("*.index"))
        if len(found) > 1:
            names = ", ".join(file.stem for file in found)
            raise UserError(f"weights={path} holds several checkpoints; name one of {names}")
        return found[0].with_suffix("") if found else None
    prefix = path.with_name(re.sub(r"\.(index|data-\d+-of-\d+)$", "", path.name))
    return prefix if prefix.with_name(f"{prefix.name}.index").is_file() else None


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return a checkpoint's weights under ``<layer>.<torch's parameter name>``.

    Where a variable has a moving average that one is taken: the published accuracies are its.
    Kernels are laid out as torch has them. Other variables (fusion weights) keep their names.

    Args:
        path: the ``.npz`` or the checkpoint's prefix.

    Raises:
        UserError: it is damaged, or TensorFlow is needed and not installed.
    """
    return to_torch(_read_npz(path) if path.suffix == ".npz" else _read_bundle(path))


def to_torch(variables: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Return variables by their official names in torch's layout and with its leaf names.

    The two kernels of a separable convolution become layers ``<its name>/depthwise`` and
    ``/pointwise``, of which the second has the bias.
    """
    layers = {name.removesuffix("/pointwise_kernel") for name in variables}
    tensors = {}
    for name, value in variables.items():
        layer, _, leaf = name.rpartition("/")
        parameter, axes = _LEAVES.get(leaf, (None, None))
        if axes is not None:
            value = value.transpose(axes) if value.ndim == 4 else value.T
        if layer in layers:  # a separable convolution, which is two in torch
            layer += "/depthwise" if leaf == "depthwise_kernel" else "/pointwise"
        tensors[f"{layer}.{parameter}" if parameter else name] = torch.from_numpy(np.array(value))
    return tensors


def _choose(names: list[str]) -> dict[str, str]:
    """Return each weight's name with the name of what to read for it."""
    known = set(names)
    weights = [n for n in names if not n.endswith(_AVERAGE) and not _NOT_WEIGHTS.search(n)]
    chosen = {n: n + _AVERAGE if n + _AVERAGE in known else n for n in weights}
    # An exported file may hold averages alone.
    alone = [n for n in names if n.endswith(_AVERAGE) and n.removesuffix(_AVERAGE) not in known]
    return chosen | {n.removesuffix(_AVERAGE): n for n in alone}


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[key] for name, key in _choose(archive.files).items()}
    except Exception as error:  # zipfile, numpy and the OS all have their own
        raise UserError(f"weights={path}: this archive cannot be read: {error}") from error


def _read_bundle(prefix: Path) -> dict[str, np.ndarray]:
    try:
        reader = _open_bundle(prefix)
        names = list(reader.get_variable_to_shape_map())
        return {name: reader.get_tensor(key) for name, key in _choose(names).items()}
    except UserError:
        raise
    except Exception as error:  # TensorFlow's own errors, none of them public
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise UserError(f"weights={prefix}: this checkpoint cannot be read: {reason}") from error


def _open_bundle(prefix: Path) -> _Reader:
    # Without these it tells the terminal about the processor while it is imported.
    for variable, value in (("TF_CPP_MIN_LOG_LEVEL", "3"), ("TF_ENABLE_ONEDNN_OPTS", "0")):
        os.environ.setdefault(variable, value)
    try:
        from tensorflow import train  # pyright: ignore[reportMissingImports, reportMissingModuleSource]
    except ImportError as error:
        raise UserError(
            f"weights={prefix} is a TensorFlow checkpoint; `uv sync --extra tensorflow` installs "
            "what reads it"
        ) from error
    return train.load_checkpoint(str(prefix))

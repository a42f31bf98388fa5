"""Official TensorFlow checkpoints, brought into torch's layout and back.

A checkpoint is a pair ``<prefix>.index`` and ``<prefix>.data-...``; TensorFlow itself reads it (the
extra ``tensorflow``). An ``.npz`` archive of variables by their names needs nothing.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compound.errors import UserError, first_line

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
_NORM_LEAVES = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


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


def from_torch(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Return tensors as `to_torch` gives them under their official names and layout.

    Counters of batch norms, which TensorFlow has not, are left out.
    """
    variables = {}
    for name, value in tensors.items():
        layer, _, parameter = name.rpartition(".")
        if parameter == "num_batches_tracked":
            continue
        array = value.detach().float().cpu().numpy()
        if layer:
            leaf = _leaf(layer, parameter, norm=f"{layer}.running_mean" in tensors)
            axes = _LEAVES[leaf][1]
            if axes is not None:
                array = array.transpose(np.argsort(axes)) if array.ndim == 4 else array.T
            name = f"{re.sub(r'/(depthwise|pointwise)$', '', layer)}/{leaf}"
        variables[name] = array
    return variables


def write_checkpoint(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a checkpoint ``model`` that the official code restores and `read_checkpoint` reads.

    Every variable is there twice, as itself and as its moving average: either may be asked for.

    Args:
        folder: is made.
        tensors: named as `to_torch` names them.

    Raises:
        UserError: TensorFlow is not installed.
    """
    tensorflow = _tensorflow("format=tensorflow", "writes it")
    folder.mkdir()
    variables = from_torch(tensors)
    named: dict[str, Any] = {"global_step": np.int64(0)}
    for name, value in variables.items():
        named |= {name: value, name + _AVERAGE: value}
    tensorflow.raw_ops.SaveV2(
        prefix=str(folder / "model"),
        tensor_names=list(named),
        shape_and_slices=[""] * len(named),
        tensors=list(named.values()),
    )
    # What TensorFlow looks into for the newest checkpoint of a folder.
    text = 'model_checkpoint_path: "model"\nall_model_checkpoint_paths: "model"\n'
    (folder / "checkpoint").write_text(text)


def _leaf(layer: str, parameter: str, *, norm: bool) -> str:
    """Return the last part of a variable's name."""
    if norm:
        return _NORM_LEAVES[parameter]
    if parameter == "bias":
        return "bias"
    last = layer.rpartition("/")[2]
    if last == "pointwise":
        return "pointwise_kernel"
    return "depthwise_kernel" if last.startswith("depthwise") else "kernel"


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
        reader = _tensorflow(f"weights={prefix}", "reads it").train.load_checkpoint(str(prefix))
        names = list(reader.get_variable_to_shape_map())
        return {name: reader.get_tensor(key) for name, key in _choose(names).items()}
    except UserError:
        raise
    except Exception as error:  # TensorFlow's own errors, none of them public
        raise UserError(
            f"weights={prefix}: this checkpoint cannot be read: {first_line(error)}"
        ) from error


def _tensorflow(what: str, does: str) -> Any:
    # Without these it tells the terminal about the processor while it is imported.
    for variable, value in (("TF_CPP_MIN_LOG_LEVEL", "3"), ("TF_ENABLE_ONEDNN_OPTS", "0")):
        os.environ.setdefault(variable, value)
    try:
        import tensorflow  # pyright: ignore[reportMissingImports, reportMissingModuleSource]
    except ImportError as error:
        raise UserError(
            f"{what}: TensorFlow {does}, which `uv sync --extra tensorflow` installs"
        ) from error
    return tensorflow

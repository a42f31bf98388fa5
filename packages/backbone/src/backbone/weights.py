"""Loading weights: safely, completely, or not at all."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from backbone.errors import UserError

# A Lightning checkpoint holds the network under this attribute of its module.
_MODULE_PREFIX = "model."


def read_state_dict(path: str | Path, *, name: str) -> dict[str, Tensor]:
    """Read a network's tensors from ``.safetensors``, ``.pth`` or a run's ``.ckpt``.

    Nothing is ever unpickled but tensors and plain values.

    Args:
        path: the file.
        name: the variant that the tensors are for. A run's checkpoint knows its own, and variants
            can differ without a tensor that does (EfficientDet D6 and D7).

    Raises:
        UserError: the file is missing, damaged, of another variant, or holds no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"weights={path}: there is no such file; give the path of a checkpoint or of a "
            ".safetensors or .pth file"
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (str(error) or repr(error)).splitlines()[0]
        raise UserError(f"weights={path}: this file cannot be read as weights: {reason}") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        trained_as = content.get("hyper_parameters", {}).get("model", {}).get("name", name)
        if trained_as != name:
            raise UserError(f"weights={path} were trained as {trained_as}; they do not fit {name}")
        content = {
            key.removeprefix(_MODULE_PREFIX): value
            for key, value in content["state_dict"].items()
            if isinstance(key, str) and key.startswith(_MODULE_PREFIX)
        }
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise UserError(f"weights={path}: expected a dictionary of tensors or a run's checkpoint.")
    return content


def load_weights(model: nn.Module, path: str | Path, *, name: str) -> None:
    """Fill ``model``, the variant ``name``, with the tensors of ``path``; all of them must fit.

    Raises:
        UserError: a tensor is missing, unknown, or of another shape; see also `read_state_dict`.
    """
    state = read_state_dict(path, name=name)
    own = model.state_dict()
    misfits = [f"{key} is missing" for key in own.keys() - state.keys()]
    misfits += [f"{key} is unknown" for key in state.keys() - own.keys()]
    misfits += [
        f"{key} is {tuple(state[key].shape)}, not {tuple(own[key].shape)}"
        for key in own.keys() & state.keys()
        if state[key].shape != own[key].shape
    ]
    if misfits:
        raise UserError(
            f"weights={path} belong to another network: {len(misfits)} of {len(own)} tensors do "
            f"not fit, such as {min(misfits)}. Name the model that they were trained as."
        )
    model.load_state_dict(state)

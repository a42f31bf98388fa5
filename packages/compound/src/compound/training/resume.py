"""Going on where a run stopped."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compound.data.loader import EpochData
from compound.errors import UserError
from compound.stages import Progression


def check_resumable(
    path: str | Path,
    module: nn.Module,
    *,
    max_epochs: int,
    data: EpochData | None = None,
) -> None:
    """Make sure that a training can go on from ``path``, before anything expensive happens.

    Raises:
        UserError: it is missing, cannot be read, holds no state of a training, that of another
            network than ``module``'s, one that has seen ``max_epochs`` already, or one that goes
            through other stages than ``data`` does.
    """
    if not Path(path).is_file():
        raise UserError(f"ckpt_path={path}: there is no such file")
    try:
        content = torch.load(path, map_location="meta", weights_only=True, mmap=True)
    except Exception as error:  # whatever torch says of a file that is none of its own
        raise UserError(f"ckpt_path={path} is no checkpoint; give a run's last.ckpt") from error
    if not isinstance(content, dict) or not {"loops", "optimizer_states"} <= content.keys():
        raise UserError(
            f"ckpt_path={path} holds weights but no training to go on with; give a last.ckpt, "
            "or start anew from these with weights"
        )
    shapes = {name: value.shape for name, value in content["state_dict"].items()}
    if shapes != {name: value.shape for name, value in module.state_dict().items()}:
        raise UserError(
            f"ckpt_path={path} is of another network or other classes; resume with the settings "
            "it was trained with, or start anew from it with weights"
        )
    if 0 < max_epochs <= content["epoch"] + 1:
        raise UserError(
            f"ckpt_path={path} has trained for {content['epoch'] + 1} epochs, which is all of "
            f"trainer.max_epochs={max_epochs}; a larger number trains on, with a longer schedule "
            "(not where pictures grow in stages)"
        )
    if data is not None:
        _check_stages(path, content, data)


def _check_stages(path: str | Path, content: Mapping[str, Any], data: EpochData) -> None:
    progression = data.progression
    # Lightning stores a data module's state under its class.
    plain = content.get(type(data).__qualname__, {}).get("progression")
    stored = None if plain is None else Progression.from_dict(plain)
    if stored == progression:
        return
    if stored is None or progression is None:
        was, now = "without" if stored is None else "with", "with" if stored is None else "without"
        difference = f"{was} progressive stages, and this training is {now} them"
    else:
        was, now = ("; ".join(_differing(one, other)) for one, other in (
            (stored, progression), (progression, stored)))  # fmt: skip
        difference = f"in other stages ({was}) than this training's ({now})"
    raise UserError(
        f"ckpt_path={path} was trained {difference}; resume with the settings it was trained "
        "with, or start anew from it with weights"
    )


def _differing(one: Progression, other: Progression) -> Iterator[str]:
    """Yield what is different in the first of two progressions."""
    for name, values in one.columns().items():
        if values != other.columns()[name]:
            yield f"{name.replace('_', ' ')} {', '.join(f'{value:g}' for value in values)}"

"""The networks that ``weights`` name for an average, and what they have in common."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import ListConfig
from torch import Tensor

from compound.cli.runs import checkpoint_of, run_of
from compound.errors import UserError
from compound.training.soup import first_difference
from compound.weights import check_fit, read_file


def ingredients(weights: Any, last: int | None) -> list[Path]:
    """Return the files of the networks to average.

    Raises:
        UserError: there are not as many as asked for, or fewer than two.
    """
    if is_single(weights):
        return _last_epochs(weights, last)
    folders = [(run_of(name), Path(str(name)).expanduser()) for name in weights]
    paths = [path if folder is None else checkpoint_of(folder) for folder, path in folders]
    if len(paths) < 2:
        raise UserError(f"weights={weights}: an average takes two networks or more")
    return paths


def common(paths: Sequence[Path]) -> dict[str, Any]:
    """Return what the files say of their network, which is the same, and their licence if it is.

    Raises:
        UserError: they are of different networks or classes, or do not say of which.
    """
    first: dict[str, Any] = {}
    whole: dict[str, Any] = {}
    licenses = set()
    shapes: dict[str, Tensor] = {}
    for path in paths:
        content = read_file(path)
        told = {key: content.metadata.get(key) for key in ("model", "class_names")}
        if not told["model"] or not told["class_names"]:
            raise UserError(
                f"weights={path} do not say what network they hold, as files of this project do; "
                "only those can be averaged"
            )
        told["in_channels"] = content.metadata.get("in_channels", 3)  # a detector's file has none
        first, whole = first or told, whole or content.metadata
        licenses.add(content.metadata.get("license"))
        if difference := first_difference(first, told):
            raise UserError(f"weights={path} cannot be averaged with {paths[0]}: its {difference}")
        shapes = shapes or {name: value.to("meta") for name, value in content.tensors.items()}
        check_fit(shapes, content.tensors, source=path)
    return {**whole, **first, "license": licenses.pop() if len(licenses) == 1 else None}


def home(weights: Any) -> str:
    """Return the run whose data are scored on: the first, or a file where there is none."""
    names = [str(weights)] if is_single(weights) else [str(name) for name in weights]
    return next((name for name in names if run_of(name) is not None), "".join(names[:1]))


def is_single(weights: object) -> bool:
    """Return whether ``weights`` names one run, whose epochs are meant."""
    return not isinstance(weights, ListConfig | list)


def _last_epochs(weights: Any, last: int | None) -> list[Path]:
    folder = run_of(weights)
    if folder is None:
        raise UserError(
            f"weights={weights} is no run's folder; several files are written as weights=[a,b]"
        )
    numbers = {
        int(number): path
        for path in folder.glob("checkpoints/epoch_*.ckpt")
        if (number := path.stem.removeprefix("epoch_")).isdecimal()
    }
    kept = [numbers[number] for number in sorted(numbers)]
    wanted = len(kept) if last is None else last
    if len(kept) < max(2, wanted):
        raise UserError(
            f"weights={weights}: this run kept {len(kept)} epochs of {max(2, wanted)}; a training "
            f"keeps its last ones with callbacks.recent.save_top_k={max(5, wanted)}"
        )
    return kept[-wanted:]

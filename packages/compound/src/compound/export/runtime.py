"""Running an exported program in its own runtime."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch

from compound.errors import UserError
from compound.export.engines import Run
from compound.export.program import check_size, gist, quiet
from compound.export.targets import TARGETS, target_of


class Opened(NamedTuple):
    """A program that can be run.

    Attributes:
        run: takes uint8 pictures ``(B, C, H, W)``, gives the program's tensors. Pictures that the
            program was not made for are refused.
        metadata: what the file says of itself.
    """

    run: Run
    metadata: dict[str, Any]


def is_program(path: str | Path) -> bool:
    """Return whether a path is called like a program's file."""
    return target_of(Path(path)) is not None


def open_program(path: str | Path) -> Opened:
    """Open an exported file: ``.onnx`` by ONNX Runtime, ``.xml`` by OpenVINO, ``.pt2`` by PyTorch.

    Raises:
        UserError: there is no such file, it is none of ours, or its runtime is not installed.
    """
    path = Path(path).expanduser()
    target = target_of(path)
    if target is None:
        suffixes = dict.fromkeys(f".{t.suffix.rpartition('.')[2]}" for t in TARGETS.values())
        raise UserError(f"{path}: expected an exported file, {', '.join(suffixes)}")
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        with quiet():
            run, told = target.open(path)
    except ImportError as error:
        raise UserError(
            f"{path} needs {error.name}; `uv sync --extra runtimes` installs it"
        ) from error
    except Exception as error:  # each runtime has errors of its own
        raise UserError(
            f"{path} cannot be opened; export or fetch it again: {gist(error)}"
        ) from error
    if not told:
        raise UserError(f"{path} was not written by this project: it does not say what it holds")
    metadata = json.loads(told)
    size = metadata["batch_size"]
    return Opened(_checked(run if size is None else _in_batches(run, size), metadata), metadata)


def _checked(run: Run, metadata: dict[str, Any]) -> Run:
    """Return what refuses pictures that the program was not made for."""
    channels = metadata["in_channels"]

    def run_sound(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != channels:
            raise ValueError(
                f"images: expected (B, {channels}, H, W) uint8, got {tuple(images.shape)} "
                f"{images.dtype}"
            )
        check_size(metadata["sizes"], images.shape[2:])
        return run(images)

    return run_sound


def _in_batches(run: Run, size: int) -> Run:
    """Return what computes any number of pictures by a program that takes just ``size``."""

    def run_all(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        parts = []
        for batch in images.split(size):
            blank = batch.new_zeros(size - len(batch), *batch.shape[1:])
            parts.append([output[: len(batch)] for output in run(torch.cat([batch, blank]))])
        return tuple(torch.cat(outputs) for outputs in zip(*parts, strict=True))

    return run_all

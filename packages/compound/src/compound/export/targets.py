"""The kinds of files that networks are exported to: one entry of `TARGETS` each.

Every file carries the program's metadata as JSON under `KEY`: in ONNX's ``metadata_props``,
OpenVINO's ``rt_info`` or PyTorch's extra files.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from compound.errors import UserError, closest
from compound.export.engines import Run, onnx_session, openvino_model, run_onnx, run_openvino
from compound.export.program import KEY, Program, gist, quiet
from compound.export.quantize import quantize
from compound.task import find_task, task_names

Images = Iterable[np.ndarray]


@dataclass(frozen=True)
class Target:
    """A kind of file.

    Attributes:
        name: of the target.
        suffix: of the file, from its first dot on.
        needs: packages that it is written and compared with.
        write: writes a program to a path; returns further files that belong to it. It gets images
            ``(1, C, H, W)`` uint8 if it is ``calibrated``.
        open: returns what runs a file, and its metadata as JSON.
        calibrated: whether it is in 8 bits and measured on images first; others must equal
            PyTorch but for rounding.
    """

    name: str
    suffix: str
    needs: tuple[str, ...]
    write: Callable[[Program, Path, Images], list[Path]]
    open: Callable[[Path], tuple[Run, str]]
    calibrated: bool = False


def write(program: Program, path: Path, target: str, images: Images = ()) -> list[Path]:
    """Write a program's file; return all files that belong to it, this one first.

    Args:
        program: what to write.
        path: the file; it ends with the target's suffix.
        target: a key of `TARGETS`.
        images: of a calibrated target, such as the network will see.

    Raises:
        UserError: the target has no way to compute something of the network.
    """
    try:
        with quiet():
            return [path, *TARGETS[target].write(program, path, images)]
    except UserError:
        raise
    except Exception as error:  # exporters have errors of their own, some pages long
        for file in (path, path.with_suffix(".bin")):
            file.unlink(missing_ok=True)
        name = program.metadata["architecture"]
        raise UserError(f"target={target}: {name} cannot be written: {gist(error)}") from error


def check_target(name: str) -> Target:
    """Return a target that can be written here.

    Raises:
        UserError: there is none of this name, or a package is missing.
    """
    target = TARGETS[closest(name, TARGETS, what="target")]
    missing = [package for package in target.needs if not find_spec(package)]
    if missing:
        raise UserError(
            f"writing {name} needs {', '.join(missing)}; run `uv sync --extra runtimes`"
        )
    return target


def target_of(path: Path) -> Target | None:
    """Return the target that opens a file, by its longest suffix; None if none does."""
    fitting = (target for target in TARGETS.values() if path.name.endswith(target.suffix))
    return max(fitting, key=lambda target: len(target.suffix), default=None)


def _write_onnx(program: Program, path: Path, _: Images) -> list[Path]:
    import onnx

    model = onnx.load_from_string(program.onnx)
    model.metadata_props.add(key=KEY, value=json.dumps(program.metadata))
    path.write_bytes(model.SerializeToString())
    return []


def _open_onnx(path: Path) -> tuple[Run, str]:
    session = onnx_session(str(path))
    return run_onnx(session), session.get_modelmeta().custom_metadata_map.get(KEY, "")


def _write_int8(program: Program, path: Path, images: Images) -> list[Path]:
    with TemporaryDirectory(dir=path.parent) as folder:
        source = Path(folder, "source.onnx")
        _write_onnx(program, source, ())
        quantize(source, path, images)
    return []


def _write_openvino(program: Program, path: Path, _: Images) -> list[Path]:
    import openvino

    converted = openvino_model(program.onnx)
    converted.set_rt_info(json.dumps(program.metadata), [KEY])
    openvino.save_model(converted, path, compress_to_fp16=False)
    return [path.with_suffix(".bin")]


def _open_openvino(path: Path) -> tuple[Run, str]:
    model = openvino_model(str(path))
    told = model.get_rt_info([KEY]).astype(str) if model.has_rt_info([KEY]) else ""
    return run_openvino(model), told


def _write_pt2(program: Program, path: Path, _: Images) -> list[Path]:
    told = {f"{KEY}.json": json.dumps(program.metadata)}
    torch.export.save(program.exported, path, extra_files=told)
    return []


def _open_pt2(path: Path) -> tuple[Run, str]:
    for name in task_names():
        find_task(name).register_operators()
    extra: dict[str, Any] = {f"{KEY}.json": ""}
    module = torch.export.load(path, extra_files=extra).module()

    def run(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            return module(images)

    return run, extra[f"{KEY}.json"]


_ONNX = ("onnx", "onnxscript", "onnxruntime")
TARGETS = {
    target.name: target
    for target in (
        Target("onnx", ".onnx", _ONNX, _write_onnx, _open_onnx),
        Target("pt2", ".pt2", (), _write_pt2, _open_pt2),
        Target(
            "openvino", ".xml", (*_ONNX[:2], "openvino"), _write_openvino, _open_openvino
        ),
        Target("int8", ".int8.onnx", _ONNX, _write_int8, _open_onnx, calibrated=True),
    )
}  # fmt: skip

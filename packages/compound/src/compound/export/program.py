"""A traced network, from which every target is written.

All targets are made of one trace by `torch.export`; each of their files carries the metadata.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from compound.errors import UserError

KEY = "compound"
INPUT = "images"
# A trace needs an end: pictures of a batch, and multiples of the least side.
_MOST_PICTURES, _MOST_MULTIPLES = 4096, 64
_GIST = 150


@dataclass(frozen=True, eq=False)
class Program:
    """A traced network.

    Attributes:
        exported: takes uint8 pictures ``(B, C, H, W)``, gives tensors.
        outputs: the tensors' names.
        metadata: what the files say of it, as plain values.
        translations: operators of our own -> how ONNX computes them.
    """

    exported: ExportedProgram
    outputs: tuple[str, ...]
    metadata: dict[str, Any]
    translations: Mapping[Any, Callable[..., Any]]

    @cached_property
    def onnx(self) -> bytes:
        """Return the program in ONNX, without the metadata."""
        converted = torch.onnx.export(
            self.exported,
            dynamo=True,
            verbose=False,
            input_names=[INPUT],
            output_names=list(self.outputs),
            custom_translation_table=dict(self.translations),
        )
        assert converted is not None
        return converted.model_proto.SerializeToString()


def sizes(image_size: Sequence[int], multiple: int | None) -> dict[str, Any]:
    """Return which pictures a program takes, for its metadata: ``image_size``, or multiples."""
    if multiple is None:
        return {"image_size": list(image_size), "multiple": None}
    least, most = 2 * multiple, _MOST_MULTIPLES * multiple
    return {"image_size": list(image_size), "multiple": multiple, "least": least, "most": most}


def check_size(taken: Mapping[str, Any], size: Sequence[int]) -> None:
    """Make sure that a program takes pictures of a height and width.

    Args:
        taken: see `sizes`.
        size: height and width.

    Raises:
        UserError: it does not, or would give something else than the network.
    """
    height, width = size
    multiple = taken["multiple"]
    if multiple is None:
        if [height, width] != taken["image_size"]:
            own = " x ".join(map(str, taken["image_size"]))
            raise UserError(f"image_size={height} x {width}: this program takes {own} alone")
    elif any(s % multiple or not taken["least"] <= s <= taken["most"] for s in size):
        least, most = taken["least"], taken["most"]
        high, wide = (min(max(ceil(s / multiple) * multiple, least), most) for s in size)
        raise UserError(
            f"image_size={height} x {width}: a program for any size takes multiples of {multiple} "
            f"pixels from {least} to {most}, such as image_size=[{high},{wide}]"
        )


def trace(
    network: nn.Module, shape: Sequence[int], *, any_batch: bool, multiple: int | None
) -> ExportedProgram:
    """Trace a network that takes uint8 pictures.

    Args:
        network: gives tensors in one flat tuple; in evaluation mode.
        shape: ``(B, C, H, W)`` of the pictures.
        any_batch: whether the program takes any number of pictures.
        multiple: height and width may be any multiples of this, from twice on; None for those of
            ``shape`` alone.

    Raises:
        UserError: the shape is none that any multiple could have, or the network none that can be
            traced.
    """
    check_size(sizes(shape[2:], multiple), shape[2:])
    batch, channels, height, width = shape
    dims: dict[int, Any] = {}
    if any_batch:
        dims[0] = Dim("batch", min=1, max=_MOST_PICTURES)
        batch = 2  # of a batch of one the trace would take the 1 for a constant
    if multiple is not None:
        for axis, name in ((2, "rows"), (3, "columns")):
            dims[axis] = multiple * Dim(name, min=2, max=_MOST_MULTIPLES)
    example = torch.zeros(batch, channels, height, width, dtype=torch.uint8)
    try:
        with torch.no_grad(), quiet():
            return torch.export.export(network, (example,), dynamic_shapes=(dims,))
    except Exception as error:  # of a backbone or pyramid of others
        raise UserError(f"this network cannot be exported: {gist(error)}") from error


def gist(error: Exception) -> str:
    """Return beginning and end of what an exporter or a runtime says, in one line."""
    words = " ".join(str(error).split())
    return words if len(words) <= 2 * _GIST else f"{words[:_GIST]} ... {words[-_GIST:]}"


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out what exporters and runtimes say of their own insides, often hundreds of lines."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

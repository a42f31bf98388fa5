"""Anchors: nine boxes around every place of every level (official `tf2/anchors.py`)."""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from efficientdet.specs import OCTAVES, Aspects, DetSpec

# Widths and heights of the anchors relative to the square one, for aspects 1, 2 and 1/2. The
# exact ones keep its area.
SIDES: dict[Aspects, tuple[tuple[float, float], ...]] = {
    "exact": ((1.0, 1.0), (math.sqrt(2), math.sqrt(0.5)), (math.sqrt(0.5), math.sqrt(2))),
    "rounded": ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4)),
}
ANCHORS_PER_PLACE = len(OCTAVES) * len(SIDES["exact"])


def make_anchors(
    image_size: tuple[int, int],
    levels: range,
    *,
    scale: float,
    aspects: Aspects | Sequence[float] = "exact",
    octaves: Sequence[float] = OCTAVES,
    device: torch.device | None = None,
) -> Tensor:
    """Return every anchor of a picture as xyxy pixels, ``(places * 9, 4)`` float32.

    They run level by level, row by row, place by place; at one place by octave and then by
    aspect. They are not clipped to the picture. A level's stride is picture size over map size
    and need not be whole: 320 pixels give 3 places at level 7, 106.67 pixels apart.

    Args:
        image_size: height and width of the network's input.
        levels: pyramid levels.
        scale: side of a level's smallest square anchor, in strides.
        aspects: sides of the other anchors, see `DetSpec`.
        octaves: sizes at one place, see `DetSpec`.
        device: where the anchors are wanted.
    """
    height, width = image_size
    parts = []
    for rows, columns in map_sizes(image_size, levels):
        stride_y, stride_x = height / rows, width / columns
        y = (torch.arange(rows, dtype=torch.float64) + 0.5) * stride_y
        x = (torch.arange(columns, dtype=torch.float64) + 0.5) * stride_x
        half_w, half_h = _half_sizes(scale * stride_x, scale * stride_y, aspects, octaves)
        centre_y, centre_x = y[:, None, None], x[None, :, None]
        corners = torch.broadcast_tensors(
            centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h
        )
        parts.append(torch.stack(corners, -1).reshape(-1, 4))
    return torch.cat(parts).to(device=device, dtype=torch.float32)


def anchors_of(
    spec: DetSpec, image_size: tuple[int, int], device: torch.device | None = None
) -> Tensor:
    """Return a detector's anchors for pictures of a height and width, see `make_anchors`."""
    return make_anchors(
        image_size,
        spec.levels,
        scale=spec.anchor_scale,
        aspects=spec.aspects,
        octaves=spec.octaves,
        device=device,
    )


@lru_cache(maxsize=16)
def known_anchors(spec: DetSpec, image_size: tuple[int, int], device: torch.device) -> Tensor:
    """Return the same, kept for pictures that keep coming in a few sizes; not to be changed."""
    with torch.inference_mode(False):  # gradients may flow beside them later
        return anchors_of(spec, image_size, device)


def map_sizes(image_size: tuple[int, int], levels: range) -> list[tuple[int, int]]:
    """Return rows and columns of each level's map, for pictures of this height and width."""
    sizes = []
    rows, columns = image_size
    for level in range(1, levels.stop):
        rows, columns = -(-rows // 2), -(-columns // 2)
        if level in levels:
            sizes.append((rows, columns))
    return sizes


def sides_of(aspects: Aspects | Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Return widths and heights relative to the square anchor, see `DetSpec.aspects`."""
    if isinstance(aspects, str):
        return SIDES[aspects]
    return tuple((math.sqrt(ratio), math.sqrt(1 / ratio)) for ratio in aspects)


def _half_sizes(
    base_w: float, base_h: float, aspects: Aspects | Sequence[float], octaves: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Return half widths and half heights of the nine anchors at one place, each ``(9,)``."""
    factors = torch.tensor(octaves, dtype=torch.float64)
    sides = torch.tensor(sides_of(aspects), dtype=torch.float64)
    nine = factors[:, None, None] * sides / 2  # (octaves, aspects, width and height)
    return (base_w * nine[..., 0]).flatten(), (base_h * nine[..., 1]).flatten()

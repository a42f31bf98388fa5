"""How much of each box the anchor that fits it best has, at the network's size.

Shapes: N = boxes. Boxes are in pixels of the network's input.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from compound.doctor.findings import Finding
from efficientdet.anchors import map_sizes, sides_of
from efficientdet.matcher import MATCH_IOU
from efficientdet.specs import OCTAVES, Aspects, DetSpec

# Share of boxes smaller than any anchor from which on it is a warning.
MANY_SMALL = 0.5
# COCO's sizes of objects: areas in pixels of the original picture.
BUCKETS = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, math.inf)}


@dataclass(frozen=True, slots=True)
class AnchorShapes:
    """The anchors at one place, as `DetSpec` has them."""

    scale: float
    aspects: Aspects | tuple[float, ...] = "exact"
    octaves: tuple[float, ...] = OCTAVES

    @classmethod
    def of(cls, spec: DetSpec) -> Self:
        """Return the anchors of a detector."""
        return cls(spec.anchor_scale, spec.aspects, spec.octaves)

    def sides(self) -> np.ndarray:
        """Return ``(9, 2)`` widths and heights in strides."""
        nine = np.multiply.outer(self.octaves, sides_of(self.aspects))
        return self.scale * nine.reshape(-1, 2)


class Coverage(NamedTuple):
    """How well anchors fit boxes.

    Attributes:
        count: how many boxes there are.
        recall: share of them that an anchor overlaps by 0.5 or more; no training matches more,
            but for the one anchor that every object gets.
        mean_iou: mean of the best anchors' IoU.
    """

    count: int
    recall: float
    mean_iou: float


def best_iou(
    boxes: np.ndarray, shapes: AnchorShapes, *, size: tuple[int, int], levels: range
) -> np.ndarray:
    """Return ``(N,)`` the largest IoU that each box has with any anchor.

    Of anchors of one shape the one whose centre is nearest overlaps a box most, on either axis:
    nine of each level are looked at, instead of all.

    Args:
        boxes: ``(N, 4)`` xyxy.
        shapes: the anchors.
        size: height and width of the network's input.
        levels: pyramid levels.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    areas, best = sides.prod(axis=1), np.zeros(len(boxes))
    for rows, columns in map_sizes(size, levels):
        places = np.array([columns, rows])
        stride = np.array([size[1], size[0]]) / places
        nearest = (centres // stride).clip(0, places - 1)
        offset = np.abs(centres - (nearest + 0.5) * stride)
        for anchor in shapes.sides() * stride:
            shared = np.minimum(np.minimum(sides, anchor), (sides + anchor) / 2 - offset)
            common = shared[:, 0].clip(min=0) * shared[:, 1].clip(min=0)
            np.maximum(best, common / (areas + anchor.prod() - common), out=best)
    return best


def by_size(iou: np.ndarray, areas: np.ndarray) -> dict[str, Coverage]:
    """Return the coverage of all boxes, and of each of COCO's sizes that there are.

    Args:
        iou: ``(N,)``, see `best_iou`.
        areas: ``(N,)`` in pixels of the original pictures.
    """
    found = {"all": coverage_of(iou)}
    for name, (low, high) in BUCKETS.items():
        chosen = (areas >= low) & (areas < high)
        if chosen.any():
            found[name] = coverage_of(iou[chosen])
    return found


def coverage_of(iou: np.ndarray) -> Coverage:
    """Return what the best IoU ``(N,)`` of some boxes come to."""
    return Coverage(len(iou), float((iou >= MATCH_IOU).mean()), float(iou.mean()))


def smallest_side(shapes: AnchorShapes, size: tuple[int, int], levels: range) -> float:
    """Return the side of a square as large as the smallest anchor, in pixels."""
    rows, columns = map_sizes(size, levels)[0]
    least = shapes.sides().prod(axis=1).min()
    return math.sqrt(least * (size[0] / rows) * (size[1] / columns))


def small_finding(
    split: str, boxes: np.ndarray, shapes: AnchorShapes, *, size: tuple[int, int], levels: range
) -> list[Finding]:
    """Return how many boxes are smaller than the smallest anchor, if any."""
    least = smallest_side(shapes, size, levels)
    if not len(boxes):
        return []
    small = int(((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) < least**2).sum())
    if not small:
        return []
    text = (
        f"{split}: {small} of {len(boxes)} boxes ({small / len(boxes):.1%}) are smaller than the "
        f"smallest anchor, {least:.0f} pixels at the network's {size[0]} x {size[1]}"
    )
    advice = "raise model.image_size, lower model.anchor_scale, or cut pictures into tiles"
    severity = "warning" if small >= MANY_SMALL * len(boxes) else "hint"
    return [Finding(severity, "boxes_small", text, advice)]

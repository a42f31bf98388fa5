"""Which anchors would fit the boxes: k-means for a start, then a short evolution.

The idea is autoanchor's (YOLOv2's k-means, arXiv:1612.08242, Sec. 2; mutation as in Ultralytics'
YOLOv5). There any nine shapes are free. Here each level has the same nine, twice as large as on
the level before, made of three widths over heights and three sides: those are what is searched,
with the side of the smallest. How well they fit is measured where the anchors lie.
"""

import math
from itertools import product

import numpy as np

from efficientdet.doctor.coverage import AnchorShapes, best_iou, coverage_of

# Boxes that the search looks at, drawn from all.
MOST_BOXES = 4000
# Deviation of a mutation, of the logarithm of a number, and how likely each number is mutated.
STRENGTH, PROBABILITY = 0.15, 0.5
# Sides of the smallest anchor in strides: below 1 there would be gaps between anchors.
SCALES = (1.0, 12.0)
# Beyond this an anchor is hardly wider than a pixel.
MOST_ASPECT = 20.0
# Sides at one place: twice the smallest is the next level's, whose maps have seen more around it.
MOST_OCTAVE = 1.95
_ROUNDS = 30
_DIGITS = 3


def propose(
    boxes: np.ndarray,
    present: AnchorShapes,
    *,
    size: tuple[int, int],
    levels: range,
    generations: int,
    seed: int = 0,
) -> AnchorShapes:
    """Return anchors that fit the boxes better than the present ones, or those.

    Args:
        boxes: ``(N, 4)`` xyxy in pixels of the network's input.
        present: the anchors to begin with.
        size: height and width of the network's input.
        levels: pyramid levels.
        generations: mutations that are tried.
        seed: of all that is drawn.
    """
    rng = np.random.default_rng(seed)
    if len(boxes) > MOST_BOXES:
        boxes = boxes[rng.choice(len(boxes), MOST_BOXES, replace=False)]

    def fitness(shapes: AnchorShapes) -> float:
        found = coverage_of(best_iou(boxes, shapes, size=size, levels=levels))
        return found.recall + found.mean_iou

    best, score = present, fitness(present)
    for start in starts(boxes, present.scale):
        if (value := fitness(start)) > score:
            best, score = start, value
    for _ in range(generations):
        child = _mutated(best, rng)
        if (value := fitness(child)) > score:
            best, score = child, value
    return best


def starts(boxes: np.ndarray, scale: float) -> list[AnchorShapes]:
    """Return what k-means makes of the boxes.

    Widths over heights are clustered by their logarithms, as are sides: of those only the
    fraction of an octave, as levels have all octaves. Which of the three is a place's smallest,
    and in which octave, is left open.

    Args:
        boxes: ``(N, 4)`` xyxy.
        scale: of the present anchors, in strides.
    """
    sides = np.log2(boxes[:, 2:] - boxes[:, :2])
    aspects = 2 ** kmeans(sides[:, 0] - sides[:, 1])
    # On a circle: a side just below an octave is near one just above.
    angles = sides.mean(axis=1) % 1
    turn = _widest_gap(angles)
    # Rounded, or what is nearly a whole octave above another would not be the same.
    fractions = (kmeans((angles - turn) % 1) + turn).round(6)
    found = []
    for shift, first in product((-2, -1, 0, 1), fractions.tolist()):
        octave = math.floor(math.log2(scale)) + shift
        octaves = 2 ** np.sort((fractions - first) % 1)
        found.append(_rounded(2 ** (octave + first % 1), aspects, octaves))
    return found


def kmeans(values: np.ndarray, *, clusters: int = 3) -> np.ndarray:
    """Return the centres of clusters ``(N,)`` values, rising; they begin at quantiles."""
    centres = np.quantile(values, (np.arange(clusters) + 0.5) / clusters)
    for _ in range(_ROUNDS):
        nearest = np.abs(values[:, None] - centres).argmin(axis=1)
        moved = [
            values[nearest == k].mean() if (nearest == k).any() else centres[k]
            for k in range(clusters)
        ]
        if np.allclose(moved, centres):
            break
        centres = np.array(moved)
    return np.sort(centres)


def _widest_gap(angles: np.ndarray) -> float:
    """Return where on a circle of length 1 the longest way without values ends."""
    rising = np.sort(angles)
    gaps = np.diff(rising, prepend=rising[-1] - 1)
    return float(rising[gaps.argmax()])


def _mutated(shapes: AnchorShapes, rng: np.random.Generator) -> AnchorShapes:
    sides = shapes.sides()
    # Whatever the aspects are called: widths over heights of the first octave's anchors.
    aspects = sides[:3, 0] / sides[:3, 1]
    numbers = np.array([shapes.scale, *aspects, *shapes.octaves])
    chosen = rng.random(len(numbers)) < PROBABILITY
    numbers *= np.exp(STRENGTH * rng.standard_normal(len(numbers)) * chosen)
    return _rounded(numbers[0], numbers[1:4], numbers[4:])


def _rounded(scale: float, aspects: np.ndarray, octaves: np.ndarray) -> AnchorShapes:
    """Return anchors as they can be written, within bounds, the smallest octave being 1.

    The order is that of the published 1, 2, 1/2, whose outputs weights may have learnt.
    """
    octaves = np.sort(octaves)
    tall, middle, wide = np.sort(aspects).clip(1 / MOST_ASPECT, MOST_ASPECT).round(_DIGITS).tolist()
    return AnchorShapes(
        round(float(np.clip(scale * octaves[0], *SCALES)), _DIGITS),
        (middle, wide, tall),
        tuple((octaves / octaves[0]).clip(1, MOST_OCTAVE).round(_DIGITS).tolist()),
    )

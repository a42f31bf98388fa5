"""Boxes that are no mistake of form, but hardly what somebody meant.

Shapes: N = boxes of a split, P = pictures.
"""

from collections.abc import Callable, Iterator

import numpy as np

from compound.doctor.findings import Finding, Severity
from efficientdet.data.augment import fitted_size
from efficientdet.data.index import AnnotationIndex

# Longer side over shorter side; the anchors' is 2, and at 10 no anchor reaches an IoU of 0.3.
EXTREME = 10.0
# Share of the picture from which on a box says nothing of where its object is.
COVERING = 0.98
# Of so much overlap in one picture one object was annotated twice.
SAME_IOU = 0.95
# Training drops boxes that are shorter at the network's size, see `Augment`.
LEAST_SIDE = 1.0


def box_findings(split: str, index: AnnotationIndex, size: tuple[int, int]) -> Iterator[Finding]:
    """Yield what is odd about a split's boxes at a network's input ``(height, width)``."""
    for repair, count in index.repairs.items():
        advice = "correct the annotations, or be content with that"
        places = index.places.get(repair, ())
        yield Finding("warning", "repaired", f"{split}: {count} {repair}", advice, places, count)
    name = _place_namer(index)
    for severity, check, chosen, text, advice in _odd(index, size):
        if places := list(map(name, np.flatnonzero(chosen).tolist())):
            text = f"{split}: {len(places)} of {len(chosen)} boxes {text}"
            yield Finding(severity, check, text, advice, places)
    one, other = _same(index)
    alike = index.labels[one] == index.labels[other]
    for check, chosen, text, advice in (
        ("boxes_twice", alike, "boxes are given twice", "the second can only be missed; remove it"),
        (
            "boxes_two_classes",
            ~alike,
            "boxes are given in two classes",
            "one of them is wrong, or the classes overlap; settle which",
        ),
    ):
        pairs = zip(one[chosen].tolist(), other[chosen].tolist(), strict=True)
        if places := [f"{name(b)} and {index.class_names[index.labels[a]]}" for a, b in pairs]:
            text = f"{split}: {len(places)} {text}"
            yield Finding("warning", check, text, advice, places)


def as_seen(index: AnnotationIndex, size: tuple[int, int]) -> np.ndarray:
    """Return ``(N, 4)`` boxes in pixels of the network's input, as evaluation fits pictures in."""
    sizes, which = np.unique(index.sizes, axis=0, return_inverse=True)
    ratios = np.empty((len(sizes), 2))
    for i, (width, height) in enumerate(sizes.tolist()):
        kept_height, kept_width = fitted_size((height, width), size)
        ratios[i] = kept_width / width, kept_height / height
    return index.boxes * np.tile(ratios[which[index.owners]], 2)


def _place_namer(index: AnnotationIndex) -> Callable[[int], str]:
    """Return what names a box: file, class, corners."""
    owners = index.owners

    def name(row: int) -> str:
        file = f"{index.image_dir.name}/{index.file_names[owners[row]]}"
        corners = ", ".join(f"{value:g}" for value in index.boxes[row].round(1).tolist())
        return f"{file}: {index.class_names[index.labels[row]]} [{corners}]"

    return name


def _odd(
    index: AnnotationIndex, size: tuple[int, int]
) -> list[tuple[Severity, str, np.ndarray, str, str]]:
    """Return each check with its severity, the boxes ``(N,)`` in question, and words for them."""
    sides = index.boxes[:, 2:] - index.boxes[:, :2]
    seen = as_seen(index, size)
    shorter = (seen[:, 2:] - seen[:, :2]).min(axis=1)
    whole = index.sizes[index.owners].prod(axis=1)
    counted = ~index.crowd
    return [
        (
            "warning",
            "boxes_vanish",
            counted & (shorter < LEAST_SIDE),
            f"are thinner than a pixel at the network's {size[0]} x {size[1]}",
            "training never sees them; raise model.image_size, or cut pictures into tiles",
        ),
        (
            "hint",
            "boxes_extreme",
            counted & (sides.max(1) >= EXTREME * sides.min(1)) & (shorter >= LEAST_SIDE),
            f"are {EXTREME:.0f} times as long as wide or more",
            "check them; if they are right, see anchors.yaml",
        ),
        (
            "hint",
            "boxes_cover",
            counted & (sides.prod(axis=1) >= COVERING * whole),
            f"cover {COVERING:.0%} of their picture or more",
            "check that they are objects, not labels of the picture",
        ),
    ]


def _same(index: AnnotationIndex) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of rows of one picture that overlap by `SAME_IOU` or more.

    Each box is compared with the one behind it, then with the one behind that, and so on: all
    pictures at once, as long as they have so many.
    """
    boxes, owners = index.boxes, index.owners
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    here = np.flatnonzero(~index.crowd[:-1] & (owners[:-1] == owners[1:]))
    pairs = [np.empty((2, 0), np.int64)]
    step = 1
    while len(here):
        there = here + step
        # Of two areas the IoU is at most the smaller over the larger.
        low, high = np.minimum(areas[here], areas[there]), np.maximum(areas[here], areas[there])
        near = (low >= SAME_IOU * high) & ~index.crowd[there]
        one, other = here[near], there[near]
        shared = np.minimum(boxes[one, 2:], boxes[other, 2:])
        shared -= np.maximum(boxes[one, :2], boxes[other, :2])
        common = shared.clip(min=0).prod(axis=1)
        same = common >= SAME_IOU * (areas[one] + areas[other] - common)
        pairs.append(np.stack([one[same], other[same]]))
        step += 1
        here = here[here + step < len(boxes)]
        here = here[owners[here] == owners[here + step]]
    one, other = np.concatenate(pairs, axis=1)
    return one, other

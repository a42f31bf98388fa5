"""Objects that a file lists twice, in formats where objects have no ids."""

from collections.abc import Sequence
from dataclasses import replace

from efficientdet.data.index import PictureRecord


def drop_repeats(pictures: Sequence[PictureRecord]) -> tuple[list[PictureRecord], dict[str, int]]:
    """Return the pictures with each object once, and what was repaired.

    Two objects are one if class, box and crowd flag are equal to the last digit. Not for COCO,
    where two ids are two objects, and where the official score counts both.
    """
    unique = []
    num_repeats = 0
    for picture in pictures:
        objects = {}
        for item in picture.objects:
            objects.setdefault((item.box, item.label, item.crowd), item)
        num_repeats += len(picture.objects) - len(objects)
        unique.append(replace(picture, objects=list(objects.values())))
    return unique, {"repeated objects dropped": num_repeats} if num_repeats else {}

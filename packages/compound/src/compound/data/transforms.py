"""Albumentations transforms whose randomness follows from a seed given with every image.

Left to itself albumentations 2.0.8 replays the same augmentations in every worker and epoch.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import albumentations as A
import numpy as np

from compound.errors import UserError


class SeededTransforms:
    """Apply albumentations transforms, in order.

    Args:
        transforms: the transforms; they are copied, because albumentations ties a transform to
            one pipeline.
        bbox_params: the format of boxes that travel with the image, None without boxes.

    Raises:
        UserError: an entry is no albumentations transform.
    """

    def __init__(
        self,
        transforms: Sequence[A.BasicTransform | A.BaseCompose],
        *,
        bbox_params: A.BboxParams | None = None,
    ) -> None:
        for transform in transforms:
            if not isinstance(transform, A.BasicTransform | A.BaseCompose):
                raise UserError(
                    f"data.transforms: {transform} is no albumentations transform; give each entry "
                    "a _target_, such as albumentations.ColorJitter"
                )
        self._compose = A.Compose(deepcopy(list(transforms)), bbox_params=bbox_params)

    def __call__(self, *, seed: int, **columns: Any) -> dict[str, Any]:
        """Return the columns, ``image`` ``(H, W, 3)`` uint8 among them, after the transforms."""
        self._compose.set_random_seed(seed)
        for i, transform in enumerate(self._compose.transforms):
            transform.set_random_seed(seed_of(i, seed))
        return self._compose(**columns)

    def check_images(self, size: int) -> None:
        """Refuse transforms that give anything but 8-bit images of the size they were given.

        Args:
            size: side of the square images in pixels.

        Raises:
            UserError: a transform changes size or type.
        """
        for transform in self._compose.transforms:
            always = deepcopy(transform)
            always.p = 1.0
            image = np.zeros((size, size, 3), np.uint8)
            found = A.Compose([always])(image=image)["image"]
            if not isinstance(found, np.ndarray) or found.shape != image.shape:
                problem = f"gives {tuple(found.shape)} for an image of {image.shape}"
            elif found.dtype != np.uint8:
                problem = f"gives {found.dtype} pixels, expected uint8"
            else:
                continue
            raise UserError(
                f"data.transforms: {type(transform).__name__} {problem}; cropping, resizing and "
                "normalising are done already, so leave it out"
            )


def seed_of(i: int, seed: int) -> int:
    """Return the seed of the transform at position ``i``.

    Albumentations would give all transforms the same seed, so that they would act together.
    """
    return seed + (i + 1) * 2**31

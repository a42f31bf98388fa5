"""Detection in pictures as users have them: files and arrays of any size.

``model.predict("cat.jpg")`` comes here.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from compound.data.images import Decoded
from compound.data.sources import Picture, ahead, groups_of, pixels_of, several
from efficientdet.data.augment import ScaleJitter
from efficientdet.postprocess import Detections


class Detector(Protocol):
    """An `EfficientDet`, or one that was exported."""

    image_size: tuple[int, int]
    mean: Tensor
    # The settings of a program that has NMS inside.
    nms: dict[str, Any] | None

    @property
    def pad_colour(self) -> tuple[int, int, int]:
        """Return the RGB that fills what no picture covers."""
        ...

    @property
    def predict(self) -> Callable[..., list[Detections]]:
        """Detect objects in a batch ``(B, 3, H, W)`` uint8."""
        ...


def detect(
    model: Detector,
    pictures: Picture | Iterable[Picture],
    *,
    batch_size: int = 1,
    **settings: Any,
) -> Iterator[Detections]:
    """Yield what is found in each picture, in its own pixels.

    As in evaluation a picture is scaled until it fits the network's input and padded at the bottom
    and right. Threads decode a few pictures ahead of the network; no more are held in memory.

    Args:
        model: the network.
        pictures: see `pixels_of`.
        batch_size: pictures that the network sees at a time.
        settings: of `EfficientDet.predict`.
    """
    fit = ScaleJitter(model.image_size, (1.0, 1.0), pad_colour=model.pad_colour, antialias=True)
    none = np.zeros((0, 4), np.float32)

    def prepared(picture: Picture) -> tuple[np.ndarray, tuple[int, int]]:
        pixels = pixels_of(picture)
        return fit(Decoded(pixels), none, seed=0)[0], (pixels.shape[0], pixels.shape[1])

    read = ahead(prepared, several(pictures), least=batch_size)
    for group in groups_of(read, batch_size):
        images = torch.from_numpy(np.stack([image for image, _ in group])).permute(0, 3, 1, 2)
        found = model.predict(images.to(model.mean.device), **settings)
        for detections, (_, size) in zip(found, group, strict=True):
            yield in_source(detections, size, model.image_size)


def in_source(
    found: Detections, source_size: tuple[int, int], network_size: tuple[int, int]
) -> Detections:
    """Bring detections from the network's input to the original picture, and inside it.

    Args:
        found: in pixels of the network's input.
        source_size: height and width of the picture.
        network_size: the same of the input, into which `fitted_size` scaled the picture.
    """
    height, width = source_size
    # One factor for both sides, as officially.
    factor = max(height / network_size[0], width / network_size[1])
    limits = found.boxes_xyxy.new_tensor([width, height, width, height])
    return found._replace(boxes_xyxy=(found.boxes_xyxy * factor).clamp(min=0).minimum(limits))

"""What a detector asks of its backbone, and nothing more."""

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Pyramid(Protocol):
    """Feature maps by level: level l has stride ``2 ** l`` and ``channels[l]`` channels."""

    channels: dict[int, int]

    def __call__(self, images: Tensor) -> dict[int, Tensor]:
        """Map pictures ``(B, 3, H, W)`` to one feature map a level."""
        ...

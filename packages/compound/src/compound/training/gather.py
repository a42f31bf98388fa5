"""What the processes of a distributed run tell each other when something is scored."""

from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")


def gathered(own: T) -> list[T] | None:
    """Return the parts of all processes in the first, None in the others.

    Every process must call this. Without distribution the own part is all there is.
    """
    if not _several():
        return [own]
    parts = [own] * dist.get_world_size() if dist.get_rank() == 0 else None
    dist.gather_object(own, parts)
    return parts


def from_first(own: T) -> T:
    """Return what the first process has; every process must call this."""
    box = [own]
    if _several():
        dist.broadcast_object_list(box)
    return box[0]


def _several() -> bool:
    return dist.is_available() and dist.is_initialized()

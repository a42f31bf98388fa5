"""The schedules of progressive learning, as pure functions (arXiv:2104.00298, Sec. 4.2).

The paper's Algorithm 1 and the official code differ. In the paper all values go in equal steps
from a first to a last one, both of which are trained with. In the code (`main.py`) the first size
is what the first stage has already left behind, and dropout does not change.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from compound.errors import UserError
from compound.stages import Stage

# The paper's and the code's smallest size, and number of stages.
FIRST_SIZE = 128
NUM_STAGES = 4
# Where less than 1.5 times the first size is the last, stages start at this share of it.
_FIRST_SHARE = 2 / 3


def first_size(last: int) -> int:
    """Return the size that stages start from if nothing else is said, in pixels."""
    return min(FIRST_SIZE, round(_FIRST_SHARE * last))


def paper_stages(first: Stage, last: Stage, count: int) -> tuple[Stage, ...]:
    """Return stage i of M at ``first + (last - first) * i / (M - 1)``, in all that it holds."""
    stages = []
    for i in range(count):
        share = i / (count - 1) if count > 1 else 1.0  # a single one is at its end
        values = {
            name: _between(getattr(first, name), getattr(last, name), share)
            for name in ("image_size", "magnitude", "mixup", "cutmix", "dropout")
        }
        stages.append(replace(last, **values | {"image_size": round(values["image_size"])}))
    return tuple(stages)


def official_stages(first: Stage, last: Stage, count: int) -> tuple[Stage, ...]:
    """Return what the official code trains with.

    Sizes are at ``(i + 1) / M`` of the way, fractions of pixels cut off; magnitude and alphas at
    ``i / (M - 1)``; dropout is the last one's from the start.
    """
    return tuple(
        replace(
            stage,
            image_size=int(_between(first.image_size, last.image_size, (i + 1) / count)),
            dropout=last.dropout,
        )
        for i, stage in enumerate(paper_stages(first, last, count))
    )


INTERPOLATIONS: dict[str, Callable[[Stage, Stage, int], tuple[Stage, ...]]] = {
    "official": official_stages,
    "paper": paper_stages,
}


def stage_ends(count: int, epochs: float, *, whole: bool) -> tuple[float, ...]:
    """Return when each of ``count`` equally long stages ends, in epochs, whole ones if asked to.

    Raises:
        UserError: there are more stages than epochs.
    """
    if count > epochs:
        raise UserError(
            f"progressive: {count} stages do not fit into {epochs:g} epochs; take fewer with "
            "callbacks.progressive.stages, or more of trainer.max_epochs"
        )
    ends = [epochs * (i + 1) / count for i in range(count)]
    return tuple(float(round(end)) if whole else end for end in ends)


def constant_memory(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Return stages whose batches hold as many pixels as the last one's, rounded down to even.

    Activations, which are most of the memory, grow with the pixels. The paper keeps the batch.
    """
    last = stages[-1]
    pixels = last.batch_size * last.image_size**2
    return tuple(
        replace(stage, batch_size=max(last.batch_size, pixels // stage.image_size**2 // 2 * 2))
        for stage in stages
    )


def _between(first: float, last: float, share: float) -> float:
    return first + (last - first) * share

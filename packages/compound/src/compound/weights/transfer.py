"""What a network takes over from weights: class rows by name, and the report of it all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What became of a file's tensors: a sentence each for those that were not simply loaded."""

    source: str
    num_loaded: int
    skipped: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Return whether nothing of the network is random."""
        return not (self.skipped or self.missing)

    def __str__(self) -> str:
        """Return one line."""
        parts = [f"{self.num_loaded} tensors loaded"]
        parts += [f"skipped: {'; '.join(self.skipped)}"] if self.skipped else []
        parts += [f"missing: {', '.join(self.missing)}"] if self.missing else []
        return f"weights {self.source}: {'; '.join(parts)}"


def take_rows(
    fresh: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    theirs: Sequence[str] | None,
    ours: Sequence[str] | None,
) -> tuple[dict[str, Tensor], list[str]]:
    """Return a last layer's tensors for a network's classes, and what was left out.

    Where both sides know their names, rows are taken by name; else all at once if there are as
    many, or none.

    Args:
        fresh: the network's own tensors, with K classes on the first axis.
        given: the tensors to take from, by the same names.
        theirs: names of the classes of ``given``.
        ours: names of the K classes.
    """
    wanted, found = (len(next(iter(side.values()))) for side in (fresh, given))
    by_name = theirs is not None and ours is not None and tuple(ours) != tuple(theirs)
    shapes = [(value.shape[1:], given[name].shape[1:]) for name, value in fresh.items()]
    if (wanted == found and not by_name) or any(a != b for a, b in shapes):
        return dict(given), []  # they fit as they are, or do not at all
    known = {name: row for row, name in enumerate(theirs or ())}
    pairs = [(i, known[name]) for i, name in enumerate(ours or ()) if name in known]
    rows = {name: value.clone() for name, value in fresh.items()}
    if pairs:
        to, start = (torch.tensor(side) for side in zip(*pairs, strict=True))
        for name, value in rows.items():
            value[to] = given[name][start]
    left = wanted - len(pairs)
    return rows, [f"class rows of {left} of {wanted} classes, now random"] if left else []

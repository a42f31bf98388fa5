"""What a network takes over from tensors: all or nothing, class rows by name, and the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from compound.errors import UserError


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


def load_tensors(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    source: str,
    skipped: Sequence[str] = (),
    optional: tuple[str, ...] = (),
) -> LoadReport:
    """Fill a network, completely or not at all, and report what was done.

    Args:
        model: the network.
        tensors: by the network's names.
        source: where they are from, for messages.
        skipped: what the report says was left out before.
        optional: see `check_fit`.

    Raises:
        UserError: see `check_fit`.
    """
    missing = check_fit(model.state_dict(), tensors, source=source, optional=optional)
    model.load_state_dict(tensors, strict=False)
    return LoadReport(source, len(tensors), tuple(skipped), missing)


def check_fit(
    own: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    *,
    source: str | Path,
    optional: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Return the names that a network has and ``tensors`` have not.

    Args:
        own: the network's state.
        tensors: what is to fill it.
        source: where they are from, for the message.
        optional: beginnings of names that may be missing, as counters of batch norms always may.

    Raises:
        UserError: another name is missing, or one is unknown or of another shape.
    """
    missing = [k for k in own if k not in tensors and not k.endswith("num_batches_tracked")]
    misfits = [f"{name} is missing" for name in missing if not name.startswith(optional)]
    misfits += [f"{name} is unknown" for name in tensors if name not in own]
    misfits += [
        f"{name} is {tuple(value.shape)}, not {tuple(own[name].shape)}"
        for name, value in tensors.items()
        if name in own and value.shape != own[name].shape
    ]
    if misfits:
        raise UserError(
            f"weights={source} belong to another network: {len(misfits)} of {len(own)} tensors do "
            f"not fit, such as {min(misfits)}. Name the model that they were trained as."
        )
    return tuple(missing)

"""What a comparison asks of the networks that it compares and of how they are trained."""

import re
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from compound.errors import UserError, closest

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from compound.training.task_module import TaskModule

_GROUP = "compound.contests"
# It names a folder and is shown in plots.
_NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a comparison.

    Attributes:
        name: what other rows call it.
        model: published name of the network.
        recipe: one of the contest's.
        progressive: whether the size grows in stages; else it is fixed.
        size: last side of the training pictures in pixels; None is the recipe's.
        epochs: length of the training.
        images: pictures of an epoch.
        batch_size: pictures of a step on one device.
        top1: the published accuracy in percent.
        paper_hours: the published training time.
        paper_images_per_second: the published throughput of inference.
        baseline: names of the rows it is compared with.
        train: overrides of ``tools/train.py`` for ``mode=train``.
    """

    name: str
    model: str
    recipe: str
    progressive: bool = False
    size: int | None = None
    epochs: float
    images: int
    batch_size: int
    top1: float | None = None
    paper_hours: float | None = None
    paper_images_per_second: float | None = None
    baseline: tuple[str, ...] = ()
    train: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        where = f"rows.{self.name}"
        if not _NAME.fullmatch(self.name):
            raise UserError(f"{where}: a row's name has letters, digits, dots, dashes and _ only")
        if not isinstance(self.progressive, bool):
            raise UserError(f"{where}.progressive={self.progressive}: expected true or false")
        check_counts(f"{where}.", self.epochs, self.images, self.batch_size)
        for key in ("top1", "paper_hours", "paper_images_per_second"):
            value = getattr(self, key)
            if value is not None and (not isinstance(value, int | float) or value <= 0):
                raise UserError(f"{where}.{key}={value}: expected a number above 0")


def check_counts(prefix: str, epochs: float, images: int, batch_size: int) -> None:
    """Refuse counts that nothing can be trained with; ``prefix`` is of their keys."""
    for key, value, kind, least, why in (
        ("epochs", epochs, int | float, 1, ""),
        ("images", images, int, 1, ""),
        ("batch_size", batch_size, int, 2, ", which batch norms need"),
    ):
        if isinstance(value, bool) or not isinstance(value, kind) or value < least:
            number = "a whole number of " if kind is int else ""
            raise UserError(f"{prefix}{key}={value}: expected {number}{least} or more{why}")


@dataclass(frozen=True, slots=True)
class Part:
    """A share of the epochs, and the side of its training images in pixels."""

    size: int
    share: float


class Contest(Protocol):
    """Networks, recipes and data; packages offer theirs by an entry point `compound.contests`.

    Attributes:
        title: heading of the results.
        networks: names that a row's ``model`` may have.
        recipes: names that a row's ``recipe`` may have; the last is the default.
        sources: names of the publications whose numbers a recipe may take.
        metrics: scores of a training run of which more is better.
        min_size: side of the smallest images in pixels.
    """

    title: str
    networks: Collection[str]
    recipes: Sequence[str]
    sources: Sequence[str]
    metrics: Sequence[str]
    min_size: int

    def parts(self, row: Row, source: str) -> tuple[Part, ...]:
        """Return the sizes that a row trains at, in order, with their shares of the epochs."""
        ...

    def eval_size(self, row: Row) -> int:
        """Return the side in pixels of the images that a row's network is evaluated with."""
        ...

    def module(self, row: Row, source: str, *, channels_last: bool) -> "TaskModule":
        """Build the module that trains a row, with random weights, on the CPU."""
        ...

    def batch(self, row: Row, size: int, *, channels_last: bool) -> Any:
        """Draw a random batch as the row's loader gives it, on the CPU."""
        ...

    def reading(self, row: Row, source: str) -> Hashable:
        """Return a value that is equal for rows whose loaders do the same work."""
        ...

    def loader(
        self,
        row: Row,
        source: str,
        size: int,
        *,
        batch_size: int,
        num_workers: int | None,
        folder: Path,
    ) -> "DataLoader[Any]":
        """Build a row's training loader over images that are drawn for it.

        Args:
            row: whose recipe it follows.
            source: whose numbers the recipe takes.
            size: side of its images in pixels.
            batch_size: images of a batch.
            num_workers: worker processes; None takes half of the cores, 8 at most.
            folder: an empty one, for the image files.
        """
        ...

    def overrides(self, row: Row, source: str) -> list[str]:
        """Return the overrides of ``compound train`` that choose a row's network and recipe."""
        ...


def find_contest(name: str) -> Contest:
    """Build an installed package's contest.

    Raises:
        UserError: no package offers one of this name.
    """
    offered = {entry.name: entry for entry in entry_points(group=_GROUP)}
    return offered[closest(name, offered, what="contest")].load()()

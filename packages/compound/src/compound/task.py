"""Tasks: all that differs between image classification, object detection and a task of yours.

The framework trains, evaluates, predicts, exports and shares networks without knowing any. Whatever
depends on the task is a method of its `Task`, which a package names under the entry point
``compound.tasks``. This module is light: a task imports its network inside its methods.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

from compound.errors import UserError, closest

if TYPE_CHECKING:
    import numpy as np

    from compound.doctor.diagnosis import Diagnosis, Options
    from compound.doctor.findings import Finding
    from compound.export.program import Program

GROUP = "compound.tasks"
Settings = Mapping[str, Any]


class Predictor(Protocol):
    """A network, the names of its classes, and how predictions are written and drawn.

    Attributes:
        columns: of the table of predictions.
        results: the predictions of all images so far, as plain values for JSON.
    """

    columns: tuple[str, ...]
    results: list[dict[str, Any]]

    def predict(self, images: "Iterable[np.ndarray]") -> Iterator[Any]:
        """Yield the prediction for each image, ``(H, W, 3)`` uint8 RGB."""
        ...

    def rows(self, file: str, prediction: Any) -> list[tuple[Any, ...]]:
        """Return a prediction as rows of the table, and keep it among the results."""
        ...

    def draw(self, image: "np.ndarray", prediction: Any) -> "np.ndarray":
        """Return the image with its prediction drawn on it."""
        ...

    def summary(self) -> Iterator[str]:
        """Yield lines about the results."""
        ...


class Exporter(Protocol):
    """A network to be exported, and the images on which exports are compared with it.

    A prediction is what the network returns for one image.

    Attributes:
        model: the network.
        data: the data module that holds the images.
        metric: name of the score.
        higher_is_better: whether a higher score is the better one.
        limits: the largest differences of an export in 32 bits, by what differs.
        units: of differences that have one.
        fall: how much worse the score of an export in 8 bits may be.
        image_size: height and width of the input.
    """

    model: Any
    data: Any
    metric: str
    higher_is_better: bool
    limits: Mapping[str, float]
    units: Mapping[str, str]
    fall: float
    image_size: tuple[int, int]

    def program(self, *, nms: bool, about: dict[str, Any]) -> "Program":
        """Trace the network.

        Args:
            nms: whether post-processing is part of the program.
            about: ``metrics`` and ``license`` of its metadata.
        """
        ...

    def predictions(self, network: Any) -> list[Any]:
        """Return what a network, or an exported one, predicts for the images."""
        ...

    def differences(self, expected: list[Any], found: list[Any]) -> dict[str, float]:
        """Return the largest differences between predictions, by what differs."""
        ...

    def score(self, predictions: list[Any]) -> float | None:
        """Return the score; None where the images have classes that the network does not know."""
        ...


class Control(NamedTuple):
    """A setting of prediction that a page lets its user move.

    Attributes:
        key: of the setting.
        label: shown beside it.
        choices: what it can be, or the lowest and the highest number.
    """

    key: str
    label: str
    choices: Sequence[str] | tuple[float, float]


class Format(NamedTuple):
    """A format that weights are written in.

    Attributes:
        suffix: of the file; None where it is a folder.
        writer: takes a network and its metadata; returns what writes them to a path, having made
            sure that the format can hold them.
        left: takes the metadata; returns what of the task's own a format of tensors alone leaves
            out. None where the metadata are written too.
    """

    suffix: str | None
    writer: Callable[[Any, dict[str, Any]], Callable[[Path], None]]
    left: Callable[[dict[str, Any]], list[str]] | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """What a model card says of a network of this task.

    Attributes:
        pipeline: the hub's name of the task.
        kind: such as ``object detector``.
        rows: of the table of the architecture, names and values.
        example: a line of Python that predicts with ``model``.
        preparation: how images become the network's input, before normalisation.
        papers: keys of BibTeX and the fields of each.
    """

    pipeline: str
    kind: str
    rows: Sequence[tuple[str, str]] = ()
    example: str = 'model.predict("image.jpg")'
    preparation: str = ""
    papers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


class Task:
    """What the framework asks of a task; only the methods that raise must be overridden.

    A task's configuration ``task/<name>.yaml`` names its Lightning module, a subclass of
    `compound.training.task_module.TaskModule`, and the data module is a subclass of
    `compound.data.loader.EpochData`.

    Attributes:
        name: of its entry point and its configuration.
        module: dotted name of the Lightning module, by which run folders are recognised.
        formats: formats of other projects that its weights can be written in.
    """

    name: str = ""
    module: str = ""
    formats: ClassVar[Mapping[str, Format]] = {}

    # Configuration and weights

    def fits(self, group: Literal["model", "data"], settings: Settings) -> bool:
        """Return whether a choice of a configuration group is one of this task's own.

        What fits another installed task and not this one is refused; what fits none is a
        stranger's, and may fit.

        Args:
            group: the group.
            settings: the choice's keys and values.
        """
        return False

    def owns(self, metadata: Settings) -> bool:
        """Return whether `load` can rebuild the network that a file's metadata describe.

        Files of version 0.1 lack the key ``task``; their task is the first that owns them.
        """
        return metadata.get("task") == self.name

    # Networks

    def create(self, model: Any) -> Any:
        """Build the network that a configuration describes.

        Args:
            model: the group ``model``, instantiated.
        """
        return model()

    def load(self, path: str | Path) -> Any:
        """Rebuild a network from its file alone.

        Raises:
            UserError: the file cannot be read.
        """
        raise UserError(f"task={self.name} cannot rebuild networks from files")

    def class_names(self, model: Any) -> Sequence[str]:
        """Return the names of a network's classes; numbers where they are not known."""
        return model.class_names or [f"class {i}" for i in range(model.num_classes)]

    def parts(self, model: Any, size: tuple[int, int]) -> Iterator[tuple[str, str, str]]:
        """Yield the parts of a network for its table: dotted name, description, size of the output.

        Args:
            model: the network.
            size: height and width of its input.
        """
        yield from ((name, type(part).__name__, "") for name, part in model.named_children())

    def card(self, model: Any, metadata: Settings) -> Card:
        """Return what a model card says of a network."""
        return Card("other", f"network for task={self.name}")

    # Prediction

    def check_prediction(self, settings: Settings) -> None:
        """Refuse settings that nothing can be predicted with.

        Raises:
            UserError: a value is out of its range.
        """

    def controls(self, settings: Settings) -> Sequence[Control]:
        """Return the settings that a page lets its user move."""
        return ()

    def predictor(
        self,
        model: Any,
        settings: Settings,
        *,
        given: Iterable[str] = (),
        image_ids: Mapping[str, int] | None = None,
    ) -> Predictor:
        """Return what predicts with a network and writes and draws the predictions.

        Args:
            model: the network, or an exported one.
            settings: of the verb ``predict``.
            given: the keys that the user has set; others are defaults.
            image_ids: ids of images by the names of files; others are counted.

        Raises:
            UserError: a value is out of its range.
        """
        raise UserError(f"task={self.name} has no predictions to write")

    # Export

    def register_operators(self) -> None:
        """Make operators of the task's own known to PyTorch, which its programs may hold."""

    def exported(self, opened: Any) -> Any:
        """Return an exported program, to be used like the network it was made from.

        Args:
            opened: a `compound.export.runtime.Opened`.
        """
        raise UserError(f"task={self.name} has no exports")

    def exporter(self, model: Any, settings: Settings, make_data: Callable[..., Any]) -> Exporter:
        """Return what exports a network.

        Args:
            model: the network.
            settings: of the verb ``export``.
            make_data: returns the data module, with some of its arguments replaced.

        Raises:
            UserError: a value is out of its range.
        """
        raise UserError(f"task={self.name} has no exports")

    # Data sets

    def diagnose(self, data: Any, module: Any, options: "Options") -> "Diagnosis":
        """Check all of a data set.

        Args:
            data: the data module, informed by the Lightning module.
            module: the Lightning module, whose network the data are for.
            options: how thoroughly.
        """
        from compound.doctor.diagnosis import Diagnosis

        return Diagnosis(self.check_fast(data, module), {})

    def check_fast(self, data: Any, module: Any) -> "list[Finding]":
        """Return what can be found out about a data set in a moment."""
        return []


@cache
def task_names() -> tuple[str, ...]:
    """Return the names of all installed tasks."""
    return tuple(sorted({entry.name for entry in entry_points(group=GROUP)}))


@cache
def find_task(name: str) -> Task:
    """Return an installed task.

    Raises:
        UserError: there is none of this name.
    """
    entries = {entry.name: entry for entry in entry_points(group=GROUP)}
    task: Task = entries[closest(name, entries, what="task")].load()()
    task.name = name
    return task


def task_for(choice: str, module: str | None) -> Task:
    """Return the task of a configuration.

    Args:
        choice: of the group ``task``, which may be a copy under another name.
        module: dotted name of its Lightning module.

    Raises:
        UserError: no installed task has this name or this module.
    """
    names = task_names()
    if choice not in names:
        choice = next((name for name in names if find_task(name).module == module), choice)
    return find_task(choice)


def check_task(metadata: Settings, name: str, path: str | Path) -> None:
    """Make sure that a file is of a task.

    Args:
        metadata: of the file.
        name: of the task.
        path: of the file, for the message.

    Raises:
        UserError: it is of another one.
    """
    task = task_of(metadata)
    if task is None or task.name != name:
        other = "" if task is None else f" but of task={task.name}"
        raise UserError(f"{path} is not of task={name}{other}")


def task_of(metadata: Settings) -> Task | None:
    """Return the task of a network by what its file says of it; None if it does not say.

    Raises:
        UserError: it is of a task that is not installed.
    """
    name = metadata.get("task")
    if name is None:
        tasks = map(find_task, task_names())
        return next((task for task in tasks if task.owns(metadata)), None)
    if name not in task_names():
        raise UserError(
            f"these weights are of task={name}, which is not installed ({', '.join(task_names())} "
            "are); install the package that brings it"
        )
    return find_task(str(name))

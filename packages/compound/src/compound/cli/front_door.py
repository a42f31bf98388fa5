"""The verbs as functions of Python, with the keys, checks and messages of the command line."""

import csv
import logging
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from compound.cli.configs import opened, parse, quoted
from compound.cli.launch import MISTAKES, checked, perform, prepare, reason_of
from compound.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from compound.data.sources import Picture

log = logging.getLogger(__name__)

# Keywords that stand for an inner key; any other one is written with two underscores for each dot.
SHORTHANDS = {"root": "data.root", "max_epochs": "trainer.max_epochs", "path": "hydra.run.dir"}
# Keys of the verb `predict` about the files that it writes.
_FILES = ("draw",)
_FILE_FORMAT = "[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"


@dataclass(frozen=True)
class Run:
    """A training run's folder.

    Attributes:
        path: of the folder.
    """

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))

    @property
    def metrics(self) -> dict[str, float]:
        """Return the validation scores of the best epoch, and those of a test split.

        They are read from ``metrics.csv``, which ``logger=none`` does not write.
        """
        path = self.path / "metrics.csv"
        if not path.is_file():
            return {}
        with path.open(newline="") as file:
            rows = [{key: float(v) for key, v in row.items() if v} for row in csv.DictReader(file)]
        monitor = OmegaConf.load(self.path / "config.yaml").monitor
        scored = [row for row in rows if monitor in row]
        best = max(scored, key=lambda row: _comparable(row[monitor]), default={})
        tested = next((row for row in reversed(rows) if _scores(row, "test/")), {})
        return _scores(best, "val/") | _scores(tested, "test/")

    @cached_property
    def model(self) -> "nn.Module":
        """Return the network with its best weights, in evaluation mode."""
        return load(self)

    @property
    def report(self) -> Path | None:
        """Return the path of ``report.html``, if the run wrote one."""
        path = self.path / "report.html"
        return path if path.is_file() else None


def train(
    *,
    config_dir: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    **keys: Any,
) -> Run:
    """Train a network; ``compound train --help`` lists the keys.

    Args:
        config_dir: folder with configurations of your own, as ``--config-dir``.
        overrides: values by dotted keys, such as ``{"optim.lr": 1e-3}``.
        **keys: groups and keys, such as ``task="det"``; ``optim__lr`` is ``optim.lr``, ``root`` is
            ``data.root``, ``max_epochs`` is ``trainer.max_epochs``, ``path`` is the run's folder.

    Returns:
        The run, whose folder is what the command line would have made.

    Raises:
        UserError: a key or value is invalid; the message is the command line's.
    """
    return Run(call("train", _arguments(keys, overrides, config_dir))[1])


def evaluate(
    weights: str | Path | Run,
    *,
    config_dir: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    **keys: Any,
) -> dict[str, float]:
    """Score weights on a split; ``compound evaluate --help`` lists the keys.

    Args:
        weights: a run, its folder, a checkpoint, or a word for published weights.
        config_dir: see `train`.
        overrides: see `train`.
        **keys: see `train`.

    Returns:
        The scores by their names; nan where a score is undefined.

    Raises:
        UserError: a key or value is invalid.
    """
    arguments = _arguments({"weights": weights, **keys}, overrides, config_dir)
    folder = call("evaluate", arguments)[1]
    scores: Any = OmegaConf.to_container(OmegaConf.load(folder / "scores.json"))
    return {
        name: float("nan") if score is None else score
        for name, score in scores.items()
        if "/" in name  # such as val/mAP; what else is there says what was scored
    }


def predict(
    weights: "str | Path | Run | nn.Module",
    source: "str | int | Picture | Sequence[Picture]",
    *,
    config_dir: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    **keys: Any,
) -> list[Any]:
    """Predict for images; ``compound predict --help`` lists the keys. No file is written.

    Args:
        weights: a run, its folder, a checkpoint, a word for published weights (with ``task`` and
            ``model``), or a network.
        source: what the command line takes; also an array ``(H, W, 3)`` uint8 RGB, a Pillow image,
            or several of either or of paths.
        config_dir: see `train`.
        overrides: see `train`.
        **keys: see `train`.

    Returns:
        What the network's own ``predict`` returns, one prediction for each image.

    Raises:
        UserError: a key or value is invalid, or an image cannot be read.
    """
    for key in _FILES:
        if key in keys:
            raise UserError(f"{key}= has no effect here: no file is written")
    by_name = isinstance(weights, str | Path | Run)
    on_disk = isinstance(source, str | int | Path)
    named = {
        "weights": weights if by_name else type(weights).__name__,
        "source": source if on_disk else type(source).__name__,
    }

    def job(config: DictConfig) -> list[Any]:
        from compound.cli.networks import plain
        from compound.cli.predict import check_batch_size, predictor_of
        from compound.data.sources import Files, open_source, pixels_of, several
        from compound.profiling.machine import pick_device
        from compound.task import find_task

        check_batch_size(config)
        frames: Any = open_source(source) if on_disk else Files(())  # type: ignore[arg-type]
        if by_name:
            predictor = predictor_of(config, pick_device(str(config.device)), frames)
        else:
            network: Any = weights
            predictor = find_task(network.task).predictor(network, plain(config))
        given: Any = source
        images = _images(frames) if on_disk else map(pixels_of, several(given))
        return list(predictor.predict(images))

    arguments = _arguments({**named, **keys}, overrides, config_dir)
    return call("predict", arguments, job)[0]


def load(source: str | Path | Run) -> "nn.Module":
    """Rebuild a network from a file that says what it holds, in evaluation mode.

    Args:
        source: a run, its folder, a checkpoint, or a folder as `save_pretrained` writes it.

    Raises:
        UserError: there is no such file, or it does not say of which task it is.
    """
    from compound.cli.networks import file_of
    from compound.task import task_of
    from compound.weights import read_file

    with _mistakes_raised():
        path = file_of(source.path if isinstance(source, Run) else source)
        if not path.is_file():
            raise UserError(f"{source}: there is no such run or file")
        task = task_of(read_file(path).metadata)
        if task is None:
            raise UserError(f"{path} does not say what network it holds, as files of ours do")
        return task.load(path).eval()


def call(
    verb: str, arguments: Sequence[str], job: Callable[[DictConfig], Any] | None = None
) -> tuple[Any, Path]:
    """Run a verb as the command line does, and leave the process as it was.

    Args:
        verb: its name.
        arguments: settings and flags, as on the command line.
        job: instead of the verb's own function.

    Returns:
        What the verb returned, and the folder it wrote to.

    Raises:
        UserError: a key or value is invalid.
    """
    with _as_before(), _mistakes_raised():
        line = checked(verb, [*_workers(verb, arguments), *arguments])
        assert line is not None
        if line.several:
            raise UserError("several runs are the command line's; here call the function for each")
        prepare()

        def guarded(config: DictConfig) -> tuple[Any, Path, BaseException | None]:
            settings = HydraConfig.get()
            folder = Path(settings.runtime.output_dir)
            with _logged(folder / f"{settings.job.name}.log"):
                try:
                    return perform(verb, config, job), folder, None
                except Exception as error:  # of which Hydra would print a line of its own
                    return None, folder, error

        with opened(line) as configs:
            done = configs.hydra.run(
                line.config_name, guarded, list(line.flags.overrides), with_log_configuration=False
            )
        result, folder, error = done.return_value
        if error is not None:
            raise error
        return result, folder


def _arguments(
    keys: Mapping[str, Any],
    overrides: Mapping[str, Any] | None,
    config_dir: str | Path | None,
) -> list[str]:
    """Return keywords as the command line has them."""
    flags = [] if config_dir is None else ["--config-dir", str(config_dir)]
    named = {SHORTHANDS.get(key, key.replace("__", ".")): value for key, value in keys.items()}
    named |= overrides or {}
    return [*flags, *(_setting(key, value) for key, value in named.items())]


def _setting(key: str, value: Any) -> str:
    """Return a setting, with quotes only where Hydra's grammar would read another value."""
    if isinstance(value, Run | Path):
        value = str(value.path if isinstance(value, Run) else value)
    if isinstance(value, str):
        try:
            parsed = OverridesParser.create().parse_override(f"{key}={value}")
            if not parsed.is_sweep_override() and parsed.value() == value:
                return f"{key}={value}"
        except HydraException:
            pass
    return f"{key}={_written(value)}"


def _written(value: Any) -> str:
    """Return a value in Hydra's grammar."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str() | Path():
            return quoted(str(value))
        case Mapping():
            return "{" + ",".join(f"{key}:{_written(v)}" for key, v in value.items()) + "}"
        case list() | tuple():
            return "[" + ",".join(map(_written, value)) + "]"
    if hasattr(value, "tolist"):  # NumPy's and PyTorch's numbers and arrays
        return _written(value.tolist())
    raise UserError(f"{value!r}: expected a number, text, path, list, dictionary, bool or None")


def _workers(verb: str, arguments: Sequence[str]) -> list[str]:
    """Return a setting without worker processes where they would run the user's script again."""
    method = multiprocessing.get_start_method(allow_none=True)
    method = method or multiprocessing.get_all_start_methods()[0]
    given = parse(verb, arguments).value("data.num_workers") is not None
    if method == "fork" or verb == "predict" or given:
        return []
    log.warning("data.num_workers=0: worker processes start by %s here, which is not safe", method)
    return ["data.num_workers=0"]


def _images(frames: Any) -> Iterator[Any]:
    for frame in frames:
        if frame.pixels is None:
            raise UserError(frame.problem)
        yield frame.pixels


def _scores(row: Mapping[str, float], prefix: str) -> dict[str, float]:
    return {name: value for name, value in row.items() if name.startswith(prefix)}


def _comparable(score: float) -> float:
    return float("-inf") if score != score else score


@contextmanager
def _mistakes_raised() -> Iterator[None]:
    """Turn a user's mistake inside the block into a `UserError` with the command line's message.

    A stopped run ends as Ctrl-C does in Python.
    """
    try:
        yield
    except UserError:
        raise
    except MISTAKES as error:
        if os.environ.get("HYDRA_FULL_ERROR"):
            raise
        raise UserError(reason_of(error)) from error
    except SystemExit as ended:
        if ended.code == 128 + signal.SIGINT:
            raise KeyboardInterrupt from None
        raise


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Write log lines to a file inside the block, and to the terminal if nothing else does."""
    root = logging.getLogger()
    file = logging.FileHandler(path, delay=True)
    file.setFormatter(logging.Formatter(_FILE_FORMAT))
    added: list[logging.Handler] = [file]
    if not root.handlers:
        added.append(logging.StreamHandler(sys.stdout))
    for handler in added:
        root.addHandler(handler)
    level = root.level
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.setLevel(level)
        for handler in added:
            root.removeHandler(handler)
            handler.close()


@contextmanager
def _as_before() -> Iterator[None]:
    """Restore warnings, environment and signal handlers after the block."""
    environment = dict(os.environ)
    main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if main else ()
    handlers = {number: signal.getsignal(number) for number in numbers}
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        try:
            yield
        finally:
            for number, handler in handlers.items():
                if signal.getsignal(number) is not handler:
                    signal.signal(number, handler)
            for name in os.environ.keys() - environment.keys():
                if not name.startswith("WANDB_"):  # the address of its service, which lives on
                    del os.environ[name]
            os.environ.update(environment)

"""What every verb shares: how it starts, and how errors are reported."""

import logging
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

# Before anything imports albumentations: its version check would ask the network for 2 seconds.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
# Before anything imports torch: how long GNU's OpenMP lets waiting threads spin on a core. Its
# default of 300,000 starves a second training on the machine; not to spin at all
# (OMP_WAIT_POLICY=PASSIVE) slows the many short operations of small networks.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")
# Likewise: what PyTorch's profiler says of GPUs that are not there.
os.environ.setdefault("KINETO_LOG_LEVEL", "5")

from hydra import version
from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from compound.cli.configs import (
    CONFIGS,
    VERSION_BASE,
    CommandLine,
    opened,
    parse,
    register_installed,
)
from compound.cli.help import help_text, purpose_of
from compound.cli.moved import rename_targets
from compound.cli.overrides import check
from compound.cli.runs import implied
from compound.errors import UserError, closest, first_line

EXIT_MISTAKE = 2

# Third parties' remarks that no user of ours can act on.
_NOISE = (
    ".*isinstance.treespec, LeafSpec.*",
    ".*does not have many workers.*",
    "The dirpath has changed from",
    ".*Experiment logs directory.*exists and is not empty.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*The number of training batches .* is smaller than the logging interval.*",
    ".*`lr_scheduler.step.*` before `optimizer.step.*",
    ".*Grad strides do not match bucket view strides.*",
    "Found .* module.* in eval mode at the start of training.*",  # frozen ones are
    ".*sync_dist=True.*",  # every process has scored the same rows
)


def spec(table_name: str, name: str, field: str) -> Any:
    """Resolve ``${spec:package.specs.TABLE,model,field}`` from a spec table, without torch."""
    home, _, attribute = table_name.rpartition(".")
    table = getattr(import_module(home), attribute)
    return getattr(table[closest(name, table, what="model")], field)


def recipe(function: str, *arguments: Any) -> Any:
    """Resolve ``${recipe:package.module.function,argument,...,field}``, a field of a result."""
    home, _, name = function.rpartition(".")
    *given, field = arguments
    value = getattr(getattr(import_module(home), name)(*given), field)
    return OmegaConf.create(list(value)) if isinstance(value, tuple) else value


def auto_precision(accelerator: str) -> str:
    """Resolve ``${auto_precision:...}``: bf16-mixed on a GPU that has it, 32-bit elsewhere."""
    import torch

    cuda = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if cuda and torch.cuda.is_bf16_supported() else "32-true"


def register_resolvers() -> None:
    """Make our resolvers known to OmegaConf."""
    OmegaConf.register_new_resolver("spec", spec, replace=True)
    OmegaConf.register_new_resolver("recipe", recipe, replace=True)
    OmegaConf.register_new_resolver("auto_precision", auto_precision, replace=True)


class FailedRun(CompactHydraException):
    """One run of several could not be done; its reason has been told."""


def run(verb: str, arguments: Sequence[str]) -> None:
    """Check a verb's command line, then hand over to Hydra, which imports the verb's module.

    Errors end in one line and exit code 2.
    """
    with mistakes_told():
        line = checked(verb, arguments)
    if line is None:
        return

    def guarded(config: DictConfig) -> float | None:
        prepare()  # a launcher may have started this process
        try:
            with mistakes_told():
                return perform(verb, config)
        except SystemExit as ended:
            if ended.code != EXIT_MISTAKE or not HydraConfig.get().mode == RunMode.MULTIRUN:
                raise
            raise FailedRun("error: a run of several failed, see above") from None

    prepare()
    version.setbase(VERSION_BASE)
    register_installed()
    try:
        # As `hydra.main` does; that one reads sys.argv, which has the verb in it.
        _run_hydra(line.flags, get_args_parser(), guarded, str(CONFIGS), verb)
    except SystemExit as ended:
        if isinstance(ended.__context__, FailedRun):
            sys.exit(EXIT_MISTAKE)
        raise


def checked(verb: str, arguments: Sequence[str]) -> CommandLine | None:
    """Return a command line with what a run implies; print its help and return None if asked to.

    Raises:
        UserError: see `check_overrides`.
    """
    line = parse(verb, arguments)
    if line.flags.help:
        with opened(line) as configs:
            print(help_text(configs, purpose_of(verb)))
        return None
    if added := implied(line):
        line = parse(verb, [*added, *arguments])
    check(line)
    return line


def perform(verb: str, config: DictConfig, job: Callable[[DictConfig], Any] | None = None) -> Any:
    """Run a verb, or ``job`` instead of its function, inside a job of Hydra's.

    Raises:
        UserError: a key that must be given is missing, or whatever the verb refuses.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        missing = sorted(OmegaConf.missing_keys(config))
        if missing:
            raise UserError(f"{missing[0]} is not set; give it as {missing[0]}=<value>")
        rename_targets(config, source="configuration")
        own = getattr(import_module(f"compound.cli.{verb}"), verb) if job is None else job
        return own(config)
    finally:
        _remove_empty(folder)


def prepare() -> None:
    """Register our resolvers, and suppress remarks of other libraries."""
    for noise in _NOISE:
        warnings.filterwarnings("ignore", message=noise)
    # A misspelt argument of a transform, which albumentations would pass over.
    warnings.filterwarnings("error", message=r"Argument\(s\) .* are not valid for transform")
    # Its remarks on hardware; the parent logger's level would be reset when Lightning is imported.
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # which Optuna imports
    register_resolvers()
    if multiprocessing.get_start_method(allow_none=True) == "loky":
        # Joblib's launcher started this process, and no worker of a DataLoader starts that way.
        multiprocessing.set_start_method(None, force=True)


def _remove_empty(folder: Path) -> None:
    """Remove the folder of a run that never began, and the empty ones around it."""
    folder = folder.absolute()
    with suppress(OSError):
        files = list(folder.iterdir())
        if len(files) == 1 and files[0].suffix == ".log":  # the terminal has shown it
            files[0].unlink()
        folder.rmdir()
        for parent in folder.parents:
            if not parent.is_relative_to(Path.cwd()) or parent == Path.cwd():
                break
            parent.rmdir()


def reason_of(error: BaseException) -> str:
    """Return the message for a user's mistake.

    Hydra wraps what goes wrong while it builds an object from the configuration; the reason is
    looked for inside.
    """
    reason = error
    while not isinstance(reason, UserError) and (inner := reason.__cause__ or reason.__context__):
        reason = inner
    where = ""
    if isinstance(error, InstantiationException) and not isinstance(reason, UserError):
        where = f"{str(error).rpartition('full_key: ')[2].strip()}: "
    advice = "; install it, or name its folder in PYTHONPATH"
    return where + first_line(reason) + advice * isinstance(reason, ModuleNotFoundError)


# What a user can mend; anything else is a bug of ours and passes with its traceback.
MISTAKES = (UserError, HydraException, OmegaConfBaseException)


@contextmanager
def mistakes_told() -> Iterator[None]:
    """Turn a user's mistake inside the block into one line on stderr and exit code 2.

    Ctrl-C is one word and 130.
    """
    try:
        yield
    except BrokenPipeError:  # whoever read it, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except MISTAKES as error:
        if os.environ.get("HYDRA_FULL_ERROR"):
            raise
        print(f"error: {reason_of(error)}", file=sys.stderr)
        sys.exit(EXIT_MISTAKE)

"""What every tool shares: how it starts, and how mistakes are told."""

import logging
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
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

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from compound.cli.help import CONFIGS, help_text
from compound.cli.overrides import check_overrides, first_line
from compound.errors import UserError, closest

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


def recipe(source: Any, name: str, image_size: Any, field: str) -> Any:
    """Resolve ``${recipe:official,model,image_size,field}``, see `efficientnetv2.recipes`."""
    from efficientnetv2.recipes import sized_recipe

    value = getattr(sized_recipe(name, source, image_size), field)
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


def in_multirun() -> bool:
    """Return whether this run is one of several."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def run(config_name: str, job: Callable[[DictConfig], float | None]) -> None:
    """Check the command line, then hand over to Hydra; mistakes end in one line and exit code 2.

    Args:
        config_name: of the tool.
        job: what it does; what it returns is what a sweep looks at.
    """
    import hydra

    def guarded(config: DictConfig) -> float | None:
        _prepare()  # a launcher may have started this process
        try:
            with mistakes_told():
                missing = sorted(OmegaConf.missing_keys(config))
                if missing:
                    raise UserError(f"{missing[0]} is not set; give it as {missing[0]}=<value>")
                return job(config)
        except SystemExit as ended:
            if ended.code != EXIT_MISTAKE or not in_multirun():
                raise
            raise FailedRun("error: a run of several failed, see above") from None
        finally:
            _remove_empty(Path(config.paths.output_dir))

    # Hydra takes no settings behind a flag that has settings before it.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: word not in ("-m", "--multirun"))
    if {"-h", "--help"} & set(sys.argv):
        print(help_text(config_name, str(job.__doc__).strip().splitlines()[0]))
        return
    with mistakes_told():
        check_overrides(config_name, sys.argv[1:])
    _prepare()
    try:
        hydra.main(str(CONFIGS), config_name, version_base="1.3")(guarded)()
    except SystemExit as ended:
        if isinstance(ended.__context__, FailedRun):
            sys.exit(EXIT_MISTAKE)
        raise


def _prepare() -> None:
    """Make our resolvers known, and keep away what others would say."""
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


@contextmanager
def mistakes_told() -> Iterator[None]:
    """Turn a user's mistake inside the block into one line on stderr and exit code 2.

    Ctrl-C is one word and 130.

    Hydra wraps what goes wrong while it builds an object from the configuration; the reason is
    looked for inside. Anything else is a bug of ours and passes with its traceback.
    """
    try:
        yield
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except (UserError, HydraException, OmegaConfBaseException) as error:
        if os.environ.get("HYDRA_FULL_ERROR"):
            raise
        reason: BaseException = error
        while not isinstance(reason, UserError) and (
            inner := reason.__cause__ or reason.__context__
        ):
            reason = inner
        where = ""
        if isinstance(error, InstantiationException) and not isinstance(reason, UserError):
            where = f"{str(error).rpartition('full_key: ')[2].strip()}: "
        print(f"error: {where}{first_line(reason)}", file=sys.stderr)
        sys.exit(EXIT_MISTAKE)

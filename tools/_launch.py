"""What every tool shares: checking the command line, building objects, telling mistakes."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
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

from _help import help_text
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import CompactHydraException, HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import AnyNode, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from backbone.errors import UserError, closest

CONFIGS = Path(__file__).parent.parent / "configs"
EXIT_MISTAKE = 2
# Hydra's plugins that the extra `sweep` brings, by what is chosen; `sweep` cards choose Optuna.
_PLUGINS = {
    "hydra/sweeper": {"basic": "", "optuna": "hydra_optuna_sweeper"},
    "hydra/launcher": {
        "basic": "",
        "joblib": "hydra_joblib_launcher",
        "submitit_local": "hydra_submitit_launcher",
        "submitit_slurm": "hydra_submitit_launcher",
    },
}
# What a key takes besides numbers.
_WORDS = {"data.batch_size": "auto"}

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


def check_overrides(config_name: str, arguments: Sequence[str]) -> None:
    """Refuse what the configuration does not know, before Hydra gets to see it.

    Raises:
        UserError: an unknown key or group, an unknown choice of a group, or a value of another
            kind than the one it replaces.
    """
    for before, word in pairwise(("", *arguments)):
        if not ("=" in word or word.startswith(("-", "~")) or before.startswith("-")):
            raise UserError(f"{word!r} is no setting; settings are written as key=value")
    overrides = [a for a in arguments if "=" in a or a.startswith("~")]
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except HydraException as error:
        raise UserError(f"the command line cannot be read: {_first_line(error)}") from error
    if not parsed:  # our own configuration fits; Hydra need not put it together twice
        return
    choices, values = [], []
    several = {"-m", "--multirun"} & set(arguments)
    several |= {word for word in arguments if word.startswith(("sweep=", "hydra.mode="))}
    for override in parsed:
        if override.is_sweep_override() and not several:
            raise UserError(
                f"{override.input_line}: a list is written in brackets, [a,b]; several runs take -m"
            )
        key = str(override.key_or_group)
        is_group = (CONFIGS / key).is_dir() or key.startswith("hydra/")
        (choices if is_group else values).append(override)
        if is_group and not override.is_delete():
            options = sorted(p.stem for p in (CONFIGS / key).glob("[!_]*.yaml"))
            for choice in _choices(override.value()):
                _check_choice(key, choice, options or list(_PLUGINS.get(key, ())))
                _check_plugin(key, choice)
    groups = [p.name for p in CONFIGS.iterdir() if p.is_dir()]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        chosen = [str(o.input_line) for o in choices if not o.is_sweep_override()]
        config = compose(config_name, chosen, return_hydra_config=True)
        if "task" in config:
            _check_fit(config)
        keys = dict(_leaves(config))
        for override in values:
            key = str(override.key_or_group)
            if override.is_force_add():
                continue
            if override.is_add():
                if key in keys:
                    raise UserError(f"+{key}: this key is there already; leave out the plus")
                continue
            try:
                closest(key, [*keys, *groups], what="key")
            except UserError as error:
                if not key.startswith("rows."):
                    raise
                hint = f"what a row does not say yet is added by +{key}=..."
                raise UserError(f"{error} ({hint})") from error
            _check_kind(key, override.value(), keys[key])


def _check_fit(config: DictConfig) -> None:
    """Refuse a model or a data set of another kind of task: detectors go with boxes."""
    task = config.hydra.runtime.choices.task
    detects = str(config.task._target_).startswith("efficientdet.")
    for group, key in (("model", "name"), ("data", "_target_")):
        if str(config[group][key]).startswith("efficientdet") != detects:
            cards = [p for p in (CONFIGS / group).glob("[!_]*.yaml")]
            fitting = sorted(p.stem for p in cards if _is_detection(group, p) == detects)
            raise UserError(
                f"{group}={config.hydra.runtime.choices[group]} does not fit task={task}, which "
                f"takes {', '.join(fitting)}"
            )


def _is_detection(group: str, card: Path) -> bool:
    """Return whether a card leads to detection, by the base card it names."""
    text = card.read_text(encoding="utf-8")
    return "_efficientdet" in text if group == "model" else "_detection" in text


def _choices(value: Any) -> list[str]:
    if hasattr(value, "list"):  # a sweep over choices
        value = value.list
    values = value if isinstance(value, list) else [value]
    return ["null" if v is None else str(v) for v in values]


def _check_choice(group: str, choice: str, options: list[str]) -> None:
    if choice in options:
        return
    near = get_close_matches(choice, options, cutoff=0.5)
    advice = f"did you mean {' or '.join(near)}? " if near else ""
    raise UserError(f"{group}={choice}: {advice}available: {', '.join(options)}")


def _check_plugin(group: str, choice: str) -> None:
    """Refuse a sweep whose package is not installed, of which Hydra would say a page."""
    if group == "sweep" and choice != "null":
        plugin = _PLUGINS["hydra/sweeper"]["optuna"]
    else:
        plugin = _PLUGINS.get(group, {}).get(choice, "")
    if plugin and not _has_plugin(plugin):
        raise UserError(f"{group}={choice}: {plugin} is not installed; run `uv sync --extra sweep`")


def _has_plugin(name: str) -> bool:
    try:
        return find_spec(f"hydra_plugins.{name}") is not None
    except ModuleNotFoundError:  # of the namespace, where there is no plugin at all
        return False


def _check_kind(key: str, value: Any, default: Any) -> None:
    if key == "hydra.sweeper.storage" and str(value).startswith(("sqlite", "mysql", "postgres")):
        raise UserError(f"{key}={value}: Optuna 2 keeps no study there with SQLAlchemy 2; leave it")
    if key.startswith("hydra."):  # Hydra knows better, such as hydra.verbose=[a,b]
        return
    if key in _WORDS and value == _WORDS[key]:
        return
    number = isinstance(default, int | float) and not isinstance(default, bool)
    given_number = isinstance(value, int | float) and not isinstance(value, bool)
    given_text = isinstance(value, str) and not value.startswith("$")
    if (number and (given_text or isinstance(value, bool))) or (
        isinstance(default, bool) and (given_number or given_text)
    ):
        kind = "true or false" if isinstance(default, bool) else "a number"
        raise UserError(f"{key}={value}: expected {kind}, such as the default {default}")


def _leaves(config: DictConfig, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key, inner ones too, with its plain value (None where it is interpolated)."""
    for key in config:
        path = f"{prefix}{key}"
        node = config._get_node(key)
        assert not isinstance(node, list)
        if isinstance(node, DictConfig) and not node._is_interpolation() and not node._is_none():
            yield path, None
            yield from _leaves(node, f"{path}.")
        else:
            value = node._value() if isinstance(node, AnyNode) else None
            yield path, None if isinstance(value, str) and value.startswith(("$", "???")) else value


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
    # For processes that a launcher starts: there the tool is not the program.
    paths = (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
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

    Hydra wraps what goes wrong while it builds an object from the configuration; the reason is
    looked for inside. Anything else is a bug of ours and passes with its traceback.
    """
    try:
        yield
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
        print(f"error: {where}{_first_line(reason)}", file=sys.stderr)
        sys.exit(EXIT_MISTAKE)


def _first_line(error: BaseException) -> str:
    return (str(error) or repr(error)).strip().splitlines()[0]

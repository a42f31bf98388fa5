"""What a command line may say: told before Hydra gets to see it, in one line."""

import os
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import AnyNode, DictConfig

from compound.cli.help import CONFIGS
from compound.errors import UserError, closest

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


def check_overrides(config_name: str, arguments: Sequence[str]) -> None:
    """Refuse what the configuration does not know.

    Raises:
        UserError: an unknown key or group, an unknown choice of a group, or a value of another
            kind than the one it replaces.
    """
    parsed = _parsed(arguments)
    if not parsed:  # our own configuration fits; Hydra need not put it together twice
        return
    choices = [override for override in parsed if _is_group(override)]
    for override in choices:
        if not override.is_delete():
            _check_group(str(override.key_or_group), override.value())
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        chosen = [str(o.input_line) for o in choices if not o.is_sweep_override()]
        config = compose(config_name, chosen, return_hydra_config=True)
        if "task" in config:
            _check_fit(config)
        keys = dict(_leaves(config))
    for override in parsed:
        if not _is_group(override) and not override.is_force_add():
            _check_value(override, keys)


def first_line(error: BaseException) -> str:
    """Return the beginning of what an error says."""
    return (str(error) or repr(error)).strip().splitlines()[0]


def _parsed(arguments: Sequence[str]) -> list[Override]:
    """Return the settings of a command line."""
    for before, word in pairwise(("", *arguments)):
        if not ("=" in word or word.startswith(("-", "~")) or before.startswith("-")):
            raise UserError(f"{word!r} is no setting; settings are written as key=value")
    try:
        settings = [a for a in arguments if "=" in a or a.startswith("~")]
        parsed = OverridesParser.create().parse_overrides(settings)
    except HydraException as error:
        raise UserError(f"the command line cannot be read: {first_line(error)}") from error
    several = {"-m", "--multirun"} & set(arguments)
    several |= {word for word in arguments if word.startswith(("sweep=", "hydra.mode="))}
    for override in parsed:
        if override.is_sweep_override() and not several:
            raise UserError(
                f"{override.input_line}: a list is written in brackets, [a,b]; several runs take -m"
            )
    return parsed


def _is_group(override: Override) -> bool:
    key = str(override.key_or_group)
    return (CONFIGS / key).is_dir() or key.startswith("hydra/")


def _check_group(group: str, value: Any) -> None:
    options = sorted(p.stem for p in (CONFIGS / group).glob("[!_]*.yaml"))
    for choice in _choices(value):
        _check_choice(group, choice, options or list(_PLUGINS.get(group, ())))
        _check_plugin(group, choice)


def _check_value(override: Override, keys: dict[str, Any]) -> None:
    key = str(override.key_or_group)
    if override.is_add():
        if key in keys:
            raise UserError(f"+{key}: this key is there already; leave out the plus")
        return
    groups = [p.name for p in CONFIGS.iterdir() if p.is_dir()]
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
    if key in ("hydra.run.dir", "hydra.sweep.dir"):
        _check_folder(key, str(value))
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
        kind += f" or {_WORDS[key]}" if key in _WORDS else ""
        raise UserError(f"{key}={value}: expected {kind}, such as the default {default}")


def _check_folder(key: str, folder: str) -> None:
    """Refuse a folder that cannot be made, at which Hydra would end with a traceback."""
    path = Path(folder.partition("${")[0]).absolute()
    there = next(part for part in (path, *path.parents) if os.path.exists(part))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{key}={folder}: {there} is no folder that can be written to")


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

"""The meaning of a command line's settings, checked before anything heavy is imported."""

import os
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from hydra._internal.config_repository import ConfigRepository
from hydra.core.default_element import ConfigDefault
from hydra.core.override_parser.types import Override
from omegaconf import AnyNode, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from compound.cli.configs import CommandLine, Configs, opened, parse
from compound.cli.moved import moved
from compound.errors import UserError, closest
from compound.task import Task, find_task, task_names

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


def check_overrides(verb: str, arguments: Sequence[str]) -> None:
    """Refuse settings that a verb's configuration does not know.

    Raises:
        UserError: an unknown key or group, an unknown choice of a group, a model or data that do
            not fit the task, or a value of another kind than the one it replaces.
    """
    check(parse(verb, arguments))


def check(line: CommandLine) -> None:
    """Refuse settings as `check_overrides` does, of a parsed command line."""
    for setting in line.settings:
        if setting.is_sweep_override() and not line.several:
            raise UserError(
                f"{setting.input_line}: a list is written in brackets, [a,b]; several runs take -m"
            )
    flags = line.flags
    if not (line.settings or flags.config_dir or flags.config_name or flags.config_path):
        return  # our own configuration fits; Hydra need not put it together twice
    with opened(line) as configs:
        _check_meaning(line, configs)


def _check_meaning(line: CommandLine, configs: Configs) -> None:
    choices = [setting for setting in line.settings if _is_group(setting, configs)]
    for setting in choices:
        if not setting.is_delete():
            _check_group(str(setting.key_or_group), setting.value(), configs)
    chosen = [str(s.input_line) for s in choices if not s.is_sweep_override()]
    config = configs.compose(chosen)
    if "task" in config:
        _check_fit(config, line, configs)
    keys = dict(_leaves(config))
    for setting in line.settings:
        if setting not in choices and not setting.is_force_add():
            _check_value(setting, keys, configs)


def _is_group(setting: Override, configs: Configs) -> bool:
    key = str(setting.key_or_group)
    return key.startswith("hydra/") or configs.is_group(key)


def _check_group(group: str, value: Any, configs: Configs) -> None:
    options = sorted({*configs.choices(group), *_PLUGINS.get(group, ())})
    for choice in _choices(value):
        path = f"{group}/{choice}"
        if choice != "null" and not ("/" in choice and configs.repository.config_exists(path)):
            _check_choice(group, choice, options)
        _check_plugin(group, choice)


def _check_value(setting: Override, keys: dict[str, Any], configs: Configs) -> None:
    key = str(setting.key_or_group)
    if setting.is_add():
        if key in keys:
            raise UserError(f"+{key}: this key is there already; leave out the plus")
        return
    try:
        closest(key, [*keys, *configs.groups()], what="key")
    except UserError as error:
        if not key.startswith("rows."):
            raise
        hint = f"what a row does not say yet is added by +{key}=..."
        raise UserError(f"{error} ({hint})") from error
    _check_kind(key, setting.value(), keys[key])


def _check_fit(config: DictConfig, line: CommandLine, configs: Configs) -> None:
    """Refuse a model or data of another task; what no task knows may fit any."""
    choices = config.hydra.runtime.choices
    task = _task(choices.task, config)
    groups: tuple[Literal["model", "data"], ...] = ("model", "data")
    for group in groups:
        if task is None or not isinstance(config.get(group), DictConfig):
            continue
        settings = _plain(config[group])
        given = line.value(f"{group}._target_") or settings.get("_target_")
        if given is not None:
            settings["_target_"] = moved(given)
        others = (find_task(name) for name in task_names() if name != task.name)
        if not task.fits(group, settings) and any(t.fits(group, settings) for t in others):
            fitting = [
                name
                for name in configs.choices(group)
                if task.fits(group, _card(configs.repository, group, name))
            ]
            raise UserError(
                f"{group}={choices[group]} does not fit task={choices.task}, which "
                f"takes {', '.join(fitting)}"
            )


def _task(choice: str, config: DictConfig) -> Task | None:
    """Return the task of a configuration; None if no installed one has its Lightning module."""
    if choice in task_names():
        return find_task(choice)
    target = str(config.task.get("_target_"))
    return next((t for t in map(find_task, task_names()) if t.module == target), None)


def _plain(config: DictConfig) -> dict[str, Any]:
    """Return keys and values, resolved as far as that needs no other group."""
    found: dict[str, Any] = {}
    for key in config:
        try:
            value = config[key]
        except OmegaConfBaseException:
            node: Any = config._get_node(key)
            value = node._value()
        found[str(key)] = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    return found


def _card(repository: ConfigRepository, group: str, choice: str) -> dict[str, Any]:
    """Return the keys and values of a choice as its files have them, its bases' among them."""
    loaded = repository.load_config(f"{group}/{choice}")
    if loaded is None:
        return {}
    card: dict[str, Any] = {}
    for default in loaded.defaults_list or ():
        if isinstance(default, ConfigDefault) and default.path not in (None, "_self_"):
            card |= _card(repository, group, str(default.path))
    own: Any = OmegaConf.to_container(loaded.config, resolve=False)
    in_place = loaded.header.get("package") != "_global_"
    return card | ((own if in_place else own.get(group)) or {})


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

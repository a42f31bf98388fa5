"""Where configurations are found: ours, those of installed packages, and the user's own."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_automatic_config_search_path, get_args_parser
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig

from compound.errors import UserError, first_line

_INSTALLED = Path(__file__).parent.parent / "configs"
# A checkout has them at its top, where people look.
CONFIGS = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[5] / "configs"
# Entry points whose value is a package with configuration files.
GROUP = "compound.configs"
VERSION_BASE = "1.3"

# A value that is meant to be more than a path or a word: a list, a dictionary, quotes, a function.
_STRUCTURED = ("[", "{", "'", '"', "choice(", "range(", "interval(", "glob(", "tag(", "sort(")


class InstalledConfigs(SearchPathPlugin):
    """Adds the configurations of installed packages to every search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append their folders, in the order of the packages' names."""
        for entry in sorted(entry_points(group=GROUP)):
            search_path.append(f"{GROUP}: {entry.name}", _folder(entry))


def _folder(entry: EntryPoint) -> str:
    """Return where a package has its configurations, without importing the package."""
    top, *inner = entry.value.split(".")
    spec = find_spec(top)
    for home in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(home, *inner)
        if folder.is_dir():
            return f"file://{folder}"
    return f"pkg://{entry.value}"


@dataclass(frozen=True, slots=True)
class CommandLine:
    """The settings and flags of a verb.

    Attributes:
        verb: its name.
        flags: Hydra's, as its own parser reads them; their ``overrides`` are the settings' texts.
        settings: as Hydra's grammar reads them.
    """

    verb: str
    flags: Any
    settings: tuple[Override, ...]

    @property
    def config_name(self) -> str:
        """Return the name of the primary configuration."""
        return self.flags.config_name or self.verb

    @property
    def several(self) -> bool:
        """Return whether several runs are requested."""
        return self.flags.multirun or any(
            str(setting.key_or_group) in ("sweep", "hydra.mode") for setting in self.settings
        )

    def value(self, key: str) -> Any:
        """Return what a key is set to; None where it is not."""
        values = [s.value() for s in self.settings if str(s.key_or_group) == key]
        return values[-1] if values else None


def parse(verb: str, arguments: Sequence[str]) -> CommandLine:
    """Return a command line as Hydra's parsers of flags and settings read it.

    A value that Hydra's grammar cannot read is quoted if it is a plain word or path.

    Raises:
        UserError: a flag is unknown, or a word is no setting.
    """
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    flags = parser.parse_intermixed_args(list(arguments))
    if flags.experimental_rerun:
        raise UserError("--experimental-rerun: give ckpt_path=<a run's last.ckpt> instead")
    grammar = OverridesParser.create()
    settings = tuple(_setting(grammar, word) for word in flags.overrides)
    flags.overrides = [str(setting.input_line) for setting in settings]
    return CommandLine(verb, flags, settings)


def _refuse(message: str) -> NoReturn:
    raise UserError(f"the command line cannot be read: {message}")


def _setting(grammar: OverridesParser, word: str) -> Override:
    key, equals, value = word.partition("=")
    if not equals and not word.startswith("~"):
        raise UserError(f"{word!r} is no setting; settings are written as key=value")
    try:
        return grammar.parse_override(word)
    except HydraException as error:
        if not equals or value.lstrip().startswith(_STRUCTURED):
            raise UserError(f"the command line cannot be read: {first_line(error)}") from error
        return grammar.parse_override(f"{key}={quoted(value)}")


def quoted(text: str) -> str:
    """Return a text in quotes, as Hydra's grammar reads it back."""
    return QuotedString(text=text, quote=Quote.single).with_quotes()


class Configs:
    """The configurations on the search path of a command line.

    Args:
        hydra: which holds the search path.
        name: of the primary configuration.
    """

    def __init__(self, hydra: Hydra, name: str) -> None:
        self.hydra = hydra
        self.name = name
        loader = hydra.config_loader
        assert isinstance(loader, ConfigLoaderImpl)
        self.repository: ConfigRepository = loader.repository

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Compose the primary configuration, Hydra's own keys included."""
        return self.hydra.compose_config(
            config_name=self.name,
            overrides=list(overrides),
            run_mode=RunMode.RUN,
            from_shell=False,
            with_log_configuration=False,
        )

    def groups(self) -> list[str]:
        """Return the names of all groups of the first level."""
        names = self.repository.get_group_options("", ObjectType.GROUP)
        return [name for name in names if name[0] not in "_."]

    def is_group(self, name: str) -> bool:
        """Return whether there is such a group."""
        return self.repository.group_exists(name)

    def choices(self, group: str) -> list[str]:
        """Return the choices of a group; names with an underscore are bases of others."""
        names = self.repository.get_group_options(group)
        return [name for name in names if not name.startswith("_")]

    def text(self, name: str) -> str | None:
        """Return the text of a configuration file, the first on the search path.

        Args:
            name: such as ``train`` or ``data/voc``.
        """
        for source in self.repository.get_sources():
            if source.scheme() == "structured" or not source.is_config(name):
                continue
            home = files(source.path) if source.scheme() == "pkg" else Path(source.path)
            return home.joinpath(f"{name}.yaml").read_text(encoding="utf-8")
        return None


@contextmanager
def opened(line: CommandLine) -> Iterator[Configs]:
    """Open the configurations of a command line, as Hydra's only ones inside the block.

    Raises:
        UserError: a folder or package of the search path does not exist.
    """
    before, base = GlobalHydra.instance().hydra, version.getbase()
    version.setbase(VERSION_BASE)
    register_installed()
    path = create_automatic_config_search_path(
        __file__, None, line.flags.config_path or str(CONFIGS)
    )
    schema = SearchPathQuery(provider="schema")
    for added in _added(line):
        path.prepend("command line", added, anchor=schema)
    GlobalHydra.instance().clear()
    try:
        hydra = Hydra.create_main_hydra2(task_name=line.verb, config_search_path=path)
        configs = Configs(hydra, line.config_name)
        for source in configs.repository.get_sources():
            if not source.available() and source.provider == "command line":
                raise UserError(f"hydra.searchpath: {source.path} is no folder or package")
        yield configs
    finally:
        GlobalHydra.instance().hydra = before
        version.VersionBase.instance().version_base = base


def register_installed() -> None:
    """Make the configurations of installed packages known to Hydra."""
    plugins = Plugins.instance()
    if InstalledConfigs not in plugins.discover(SearchPathPlugin):
        plugins.register(InstalledConfigs)


def _added(line: CommandLine) -> Iterator[str]:
    """Yield what a command line adds to the search path."""
    folder = line.flags.config_dir
    if folder is not None:
        if not os.path.isdir(folder):
            raise UserError(f"--config-dir {folder}: there is no such folder")
        yield f"file://{os.path.abspath(folder)}"
    added = line.value("hydra.searchpath")
    if added is None:
        return
    if not isinstance(added, list) or not all(isinstance(path, str) for path in added):
        raise UserError(
            f"hydra.searchpath={added}: expected a list such as [file:///configs,pkg://my.configs]"
        )
    yield from added

"""``compound config show`` and ``copy``: the configuration files, to read and to start from."""

from collections.abc import Sequence
from pathlib import Path

from compound.cli.configs import Configs, opened, parse
from compound.errors import UserError, closest

USAGE = """\
usage: compound config show [<group>[/<choice>]]
       compound config copy <group>/<choice> [<folder> or <folder>/<group>/<name>.yaml]

--config-dir <folder> shows the files of a folder of your own, too."""

# Where copies go.
_FOLDER = Path("my_configs")


def config(arguments: Sequence[str]) -> None:
    """Show the configuration files, or copy one to change it.

    Raises:
        UserError: there is no such file, or the copy exists.
    """
    flags = [i for i, word in enumerate(arguments) if word in ("--config-dir", "-cd")]
    searched = [word for i in flags for word in arguments[i : i + 2]]
    words = [word for i, word in enumerate(arguments) if not {i, i - 1} & set(flags)]
    with opened(parse("train", searched)) as configs:
        match words:
            case ["show"]:
                for group in configs.groups():
                    print(f"{group}: {', '.join(configs.choices(group))}")
            case ["show", name]:
                _show(configs, name)
            case ["copy", name]:
                _copy(configs, name, _FOLDER)
            case ["copy", name, to]:
                _copy(configs, name, Path(to).expanduser())
            case [] | ["-h"] | ["--help"]:
                print(USAGE)
            case _:
                raise UserError(f"compound config {' '.join(words)} is unknown\n{USAGE}")


def _show(configs: Configs, name: str) -> None:
    """Print a group's choices with the first line of each, or one file."""
    if configs.is_group(name):
        for choice in configs.choices(name):
            first = (_text(configs, f"{name}/{choice}").splitlines() or [""])[0]
            print(f"{name}/{choice:<18}  {first if first.startswith('# ') else ''}".rstrip())
    else:
        print(_text(configs, name).rstrip())


def _copy(configs: Configs, name: str, to: Path) -> None:
    group, _, choice = name.rpartition("/")
    text = _text(configs, name)
    if not group:
        raise UserError(f"{name}: only a choice of a group can be copied, such as data/voc")
    if to.suffix == ".yaml":
        if to.absolute().parent.parts[-group.count("/") - 1 :] != tuple(group.split("/")):
            raise UserError(f"{to}: a choice of {group} lies in a folder called {group}")
    else:  # under a name of its own, as ours go before those of a folder that is added
        to = to / group / f"my_{choice}.yaml"
    if to.exists():
        raise UserError(f"{to} exists; give another path, or remove it")
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(text, encoding="utf-8")
    folder = to.parents[group.count("/") + 1]
    print(f"written to {to}; use it by: compound train --config-dir {folder} {group}={to.stem}")


def _text(configs: Configs, name: str) -> str:
    text = configs.text(name)
    if text is None:
        group = name.rpartition("/")[0]
        known = [f"{group}/{choice}" for choice in configs.choices(group)] if group else []
        closest(name, known or configs.groups(), what="configuration")
        raise UserError(f"configuration {name!r} is a group")
    return text

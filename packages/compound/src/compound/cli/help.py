"""What ``--help`` says: the verb's own keys as its configuration explains them, and the choices."""

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import yaml

from compound.cli.configs import CONFIGS, Configs

__all__ = ["CONFIGS", "help_text", "purpose_of"]

WIDTH = 100

_KEY = re.compile(r"(?P<key>[a-z]\w*):(?: (?P<value>[^#]*?))?(?:\s+# (?P<comment>.*))?$")
_UNSET = "???"
# Groups that are shown first, in this order; those without a use for a user are not shown.
_FIRST = ("task", "model", "data", "optim", "logger", "trainer", "experiment", "sweep", "rows")
_HIDDEN = ("hydra", "paths", "callbacks", "progressive")


def purpose_of(verb: str) -> str:
    """Return the purpose of a verb, which heads its function, without importing the verb."""
    source = Path(__file__).with_name(f"{verb}.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == verb:
            return (ast.get_docstring(node) or "").partition("\n\n")[0].replace("\n", " ")
    raise ValueError(f"{verb}.py has no function {verb}")


def help_text(configs: Configs, purpose: str) -> str:
    """Return the help of the verb whose primary configuration ``configs`` have."""
    text = configs.text(configs.name) or ""
    lines = text.splitlines()
    head = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    parts = [purpose, ""]
    parts += [f"  {line.removeprefix('# ')}" for line in lines[:head]]
    parts += ["", "Keys, written as key=value:", *_keys(lines[head:])]
    parts += ["", "Choices, written as group=choice:", *_groups(configs, text)]
    parts += [
        "",
        "Every key, inner ones too, is shown by --cfg job and may be changed by its dotted name,",
        "such as data.batch_size=4. -m runs several settings: optim.lr=0.1,0.01. --config-dir",
        "<folder> adds groups and choices of your own. The README has a table of what is changed",
        "most.",
    ]
    return "\n".join(parts)


def _keys(lines: list[str]) -> Iterator[str]:
    """Yield the keys of the first level with their comments, and the remarks between them."""
    for line in lines:
        if line.startswith("# "):
            yield f"  {line.removeprefix('# ')}"
        found = _KEY.fullmatch(line)
        if found is None or found["key"] in ("defaults", "hydra"):
            continue
        value = (found["value"] or "").strip()
        if not value:  # it has inner keys
            continue
        name = f"{found['key']}=..." if value == _UNSET else f"{found['key']}={value}"
        comment = found["comment"] or ""
        if value == _UNSET:
            comment = f"{comment} (must be given)".strip()
        yield from _wrapped(name, comment)


def _groups(configs: Configs, text: str) -> Iterator[str]:
    """Yield the groups that the configuration is made of, and the user's, with their choices."""
    chosen = dict(_defaults(configs, text))
    own = [
        name
        for name in configs.groups()
        if name not in _HIDDEN and not CONFIGS.joinpath(name).is_dir()
    ]
    for name in (*(name for name in _FIRST if name in chosen), *own):
        if configs.is_group(name):
            default = chosen.get(name)
            told = ", ".join(configs.choices(name)) + (f" (default: {default})" if default else "")
            yield from _wrapped(name, told)


def _defaults(configs: Configs, text: str) -> Iterator[tuple[str, str | None]]:
    """Yield groups and their default choices, those of the default task included."""
    for entry in (yaml.safe_load(text) or {}).get("defaults", []):
        if isinstance(entry, dict):
            ((name, choice),) = entry.items()
            name = name.removeprefix("override ").lstrip("/")
            yield name, choice
            if name == "task":
                yield from _defaults(configs, configs.text(f"task/{choice}") or "")


def _wrapped(name: str, told: str) -> list[str]:
    """Return a name and what is told of it, side by side."""
    lines = textwrap.wrap(told, WIDTH - 30) or [""]
    first = f"  {name:<26}  {lines[0]}".rstrip()
    if len(name) > 26:
        return [f"  {name}", *(f"{'':30}{line}" for line in lines)] if told else [f"  {name}"]
    return [first, *(f"{'':30}{line}" for line in lines[1:])]

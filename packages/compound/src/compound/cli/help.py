"""What ``--help`` says: the tool's own keys as its configuration explains them, and the choices."""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import yaml

_INSTALLED = Path(__file__).parent.parent / "configs"
# A checkout has them at its top, where people look.
CONFIGS = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[5] / "configs"
WIDTH = 100

_KEY = re.compile(r"(?P<key>[a-z]\w*):(?: (?P<value>[^#]*?))?(?:\s+# (?P<comment>.*))?$")
_UNSET = "???"


def help_text(tool: str, purpose: str) -> str:
    """Return the help of a tool.

    Args:
        tool: name of its configuration, which is its own.
        purpose: what it does.
    """
    text = (CONFIGS / f"{tool}.yaml").read_text(encoding="utf-8")
    lines = text.splitlines()
    head = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    parts = [purpose, ""]
    parts += [f"  {line.removeprefix('# ')}" for line in lines[:head]]
    parts += ["", "Keys, written as key=value:", *_keys(lines[head:])]
    parts += ["", "Choices, written as group=choice:", *_groups(text)]
    parts += [
        "",
        "Every key, inner ones too, is shown by --cfg job and may be changed by its dotted name,",
        "such as data.batch_size=4. -m runs several settings: optim.lr=0.1,0.01. The README has a",
        "table of what is changed most.",
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


def _groups(text: str) -> Iterator[str]:
    """Yield the groups that the configuration is made of, with what may be chosen."""
    chosen = dict(_defaults(text))
    names = ("task", "model", "data", "optim", "logger", "trainer", "experiment", "sweep", "rows")
    for name in names:
        default = chosen.get(name)
        if name in chosen and (CONFIGS / name).is_dir():
            options = sorted(p.stem for p in (CONFIGS / name).glob("[!_]*.yaml"))
            told = ", ".join(options) + (f" (default: {default})" if default else "")
            yield from _wrapped(name, told)


def _defaults(text: str) -> Iterator[tuple[str, str | None]]:
    """Yield groups and their default choices, those of the default task included."""
    for entry in yaml.safe_load(text).get("defaults", []):
        if isinstance(entry, dict):
            ((name, choice),) = entry.items()
            name = name.removeprefix("override ").lstrip("/")
            yield name, choice
            if name == "task":
                yield from _defaults((CONFIGS / f"task/{choice}.yaml").read_text(encoding="utf-8"))


def _wrapped(name: str, told: str) -> list[str]:
    """Return a name and what is told of it, side by side."""
    lines = textwrap.wrap(told, WIDTH - 30) or [""]
    first = f"  {name:<26}  {lines[0]}".rstrip()
    if len(name) > 26:
        return [f"  {name}", *(f"{'':30}{line}" for line in lines)] if told else [f"  {name}"]
    return [first, *(f"{'':30}{line}" for line in lines[1:])]

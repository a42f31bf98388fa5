"""Results as JSON with command, commit, machine and versions, and tables of them."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results"
PACKAGES = ("torch", "torchvision", "timm", "pytorch-lightning", "albumentations", "pycocotools")


def commit() -> str:
    """Return the commit that is checked out, and whether anything but results differs from it."""
    changes = _git("status", "--porcelain", "--", ".", ":!benchmarks/results", ":!docs")
    return _git("rev-parse", "HEAD") + ("-dirty" if changes else "")


def keep(
    path: Path,
    told: Mapping[str, Any],
    found: Mapping[str, Any],
    *,
    peers: Sequence[str] = (),
    at: str | None = None,
) -> dict[str, Any]:
    """Write a result with commit and machine, and return it.

    Args:
        path: the file.
        told: how it was measured; comes first.
        found: what was measured.
        peers: packages besides ours whose versions matter.
        at: the commit; None takes the present one.
    """
    result = {**told, "commit": at or commit(), **machine(peers), **found}
    path.write_text(json.dumps(result, indent=2) + "\n")
    return result


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table in Markdown."""
    head, *rest = (f"| {' | '.join(line)} |" for line in (columns, *rows))
    return [head, "|---" * len(columns) + "|", *rest]


def machine(peers: Sequence[str] = ()) -> dict[str, Any]:
    """Return what a figure may depend on; of the peers, those that are installed."""
    versions = {package: version(package) for package in PACKAGES}
    for peer in peers:
        with suppress(PackageNotFoundError):
            versions[peer] = version(peer)
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {_processor()}",
        "python": platform.python_version(),
        "versions": versions,
    }


def shown(tool: str, overrides: Sequence[str]) -> str:
    """Return a command with the last part of each path, which is all that others can use."""
    return " ".join([f"uv run tools/{tool}", *map(without_folders, overrides)])


def without_folders(override: str) -> str:
    """Return an override with the last part of each path, which is all that others can use."""
    if "[" in override:  # a list of overrides, as tools/compare.py takes it
        key, _, inner = override.partition("=")
        words = [without_folders(word.strip("'\"")) for word in inner.strip("[]").split(",")]
        return f'"{key}=[{",".join(repr(word) for word in words)}]"' if "/" in inner else override
    key, _, value = override.partition("=")
    return f"{key}=<{Path(value).name}>" if "/" in value else override


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()

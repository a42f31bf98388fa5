"""The tiers of tests: what each needs, and that none starts more than its markers say."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache, wraps
from importlib.metadata import PackageNotFoundError, distribution, metadata, requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

# Processes side by side share the cores; before anything imports torch.
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    threads = max(1, (os.cpu_count() or 1) // int(workers))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))

TIERS = {"train", "tool", "browser", "real", "long"}
_running: list[pytest.Item] = []  # the test whose fixtures, body or teardown run now


@cache
def _is_installed(extra: str) -> bool:
    """Return whether all distributions of an extra of ``compound`` are installed."""
    known = metadata("compound").get_all("Provides-Extra") or []
    if extra not in known:
        raise pytest.UsageError(f"no extra is called {extra!r}; there are {', '.join(known)}")
    for requirement in map(Requirement, requires("compound") or []):
        marker = requirement.marker
        if (
            marker is None
            or marker.evaluate({"extra": ""})
            or not marker.evaluate({"extra": extra})
        ):
            continue
        try:
            distribution(requirement.name)
        except PackageNotFoundError:
            return False
    return True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests whose data, browser or extra is missing, and say which."""
    has_browser = shutil.which("chromium") or shutil.which("chromium-browser")
    for item in items:
        reasons = [
            f"needs the extra '{extra}': uv sync --extra {extra}"
            for extra in sorted({name for mark in item.iter_markers("extra") for name in mark.args})
            if not _is_installed(extra)
        ]
        if item.get_closest_marker("real") and not os.environ.get("COMPOUND_DATA"):
            reasons.append("COMPOUND_DATA names no folder")
        if item.get_closest_marker("browser") and not has_browser:
            reasons.append("Chromium is not installed")
        if reasons:
            item.add_marker(pytest.mark.skip(reason="; ".join(reasons)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Watch what a test starts."""
    trainers = sys.modules.get("pytorch_lightning.trainer.trainer")
    for name in ("fit", "validate", "test", "predict") if trainers else ():
        _watch(trainers.Trainer, name, "runs a Trainer: mark it `train`")
    _running.append(item)
    try:
        return (yield)
    finally:
        _running.clear()


def _watch(owner: type, name: str, what: str) -> None:
    """Let a method fail the running test if that has no marker of a tier."""
    original: Callable[..., Any] = getattr(owner, name)
    if hasattr(original, "watched"):
        return

    @wraps(original)
    def watched(*args: Any, **kwargs: Any) -> Any:
        tagged = not _running or any(mark.name in TIERS for mark in _running[0].iter_markers())
        if not tagged and (owner is not subprocess.Popen or _is_tool(args, kwargs)):
            pytest.fail(f"{_running[0].nodeid} {what}", pytrace=False)
        return original(*args, **kwargs)

    watched.watched = True
    setattr(owner, name, watched)


def _is_tool(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether a process is Python's; libraries may ask ``uname`` and the like."""
    call = kwargs.get("args", args[1] if len(args) > 1 else "")
    program = call.split()[:1] if isinstance(call, str) else list(call)[:1]
    return any(
        Path(os.fsdecode(name)).name.startswith(("python", "uv", "torchrun")) for name in program
    )


_watch(subprocess.Popen, "__init__", "starts a process: mark it `tool`")


@pytest.fixture(scope="session")
def compound_data() -> Path:
    """The folder with the data that may not be republished."""
    return Path(os.environ["COMPOUND_DATA"])

"""A package's public names, imported when they are first used, so that `import` stays light."""

import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial, wraps
from importlib import import_module
from inspect import signature
from typing import Any


def lazy_names(
    package: str, homes: Mapping[str, str], models: Iterable[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and the ``__dir__`` of a package.

    Args:
        package: its name, ``__name__`` of the caller.
        homes: each lazy name -> the submodule that defines it.
        models: names that the package's ``create_model`` knows. Each becomes a function that
            builds that model; their names complete in a notebook as all others do.
    """
    models = tuple(models)

    @cache
    def builder(name: str) -> Callable[..., Any]:
        return _builder(package, name, find("create_model"))

    def find(name: str) -> Any:
        if name in models:
            return builder(name)
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes, *models})

    return find, names


def _builder(package: str, name: str, create_model: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(create_model)
    def build(**options: Any) -> Any:
        return create_model(name, **options)

    build.__module__, build.__name__, build.__qualname__ = package, name, name
    build.__doc__ = f"Build {name}; the keywords are those of `{package}.create_model`."
    build.__signature__ = signature(partial(create_model, name))  # pyright: ignore[reportAttributeAccessIssue]
    return build

"""A framework that trains, evaluates, exports and compares networks by task.

>>> import compound
>>> run = compound.train(task="det", model="det_lite0", data="voc", root="owls", weights="coco")
>>> run.model.predict("owl.jpg")
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compound.cli.front_door import Run, evaluate, load, predict, train

__version__ = "0.2.0"
__all__ = ["Run", "evaluate", "load", "predict", "train"]


def __getattr__(name: str) -> Any:
    """Import the front door when one of its names is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("compound.cli.front_door"), name)


def __dir__() -> list[str]:
    """List the front door among the names of the module."""
    return sorted({*globals(), *__all__})

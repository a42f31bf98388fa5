"""EfficientNetV2: Fused-MBConv networks on the compound-scaling core.

Names are looked up when they are first used, so that a spec table needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from compound import __version__ as __version__

if TYPE_CHECKING:
    from efficientnetv2.models import create_model as create_model
    from efficientnetv2.models import list_models as list_models
    from efficientnetv2.specs import EFFICIENTNETV2 as EFFICIENTNETV2

_HOMES = {"EFFICIENTNETV2": "specs", "create_model": "models", "list_models": "models"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

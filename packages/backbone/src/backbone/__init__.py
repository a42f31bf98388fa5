"""The compound-scaling core: EfficientNet networks from tables of stages.

Names are looked up when they are first used, so that a spec table needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from compound import __version__ as __version__

if TYPE_CHECKING:
    from backbone.classification.export import load_exported as load_exported
    from backbone.efficientnet import EfficientNet as EfficientNet
    from backbone.efficientnet import EfficientNetTrunk as EfficientNetTrunk
    from backbone.models import create_model as create_model
    from backbone.models import list_models as list_models
    from backbone.models import load_model as load_model
    from backbone.pyramid import Pyramid as Pyramid
    from backbone.specs import EFFICIENTNET as EFFICIENTNET
    from backbone.specs import NetSpec as NetSpec
    from backbone.specs import Preprocessing as Preprocessing
    from backbone.specs import StageSpec as StageSpec
    from backbone.specs import scale as scale

_HOMES = {
    "EFFICIENTNET": "specs",
    "EfficientNet": "efficientnet",
    "EfficientNetTrunk": "efficientnet",
    "NetSpec": "specs",
    "Preprocessing": "specs",
    "Pyramid": "pyramid",
    "StageSpec": "specs",
    "create_model": "models",
    "list_models": "models",
    "load_exported": "classification.export",
    "load_model": "models",
    "scale": "specs",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

"""EfficientDet: BiFPN and scaled heads on any feature pyramid.

Names are looked up when they are first used, so that a spec table needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from compound import __version__ as __version__

if TYPE_CHECKING:
    from efficientdet.efficientdet import EfficientDet as EfficientDet
    from efficientdet.export.detector import load_exported as load_exported
    from efficientdet.models import create_model as create_model
    from efficientdet.models import list_models as list_models
    from efficientdet.models import load_model as load_model
    from efficientdet.postprocess import Detections as Detections
    from efficientdet.specs import EFFICIENTDET as EFFICIENTDET
    from efficientdet.specs import DetSpec as DetSpec
    from efficientdet.weights import to_effdet as to_effdet

_HOMES = {
    "EFFICIENTDET": "specs",
    "DetSpec": "specs",
    "Detections": "postprocess",
    "EfficientDet": "efficientdet",
    "create_model": "models",
    "list_models": "models",
    "load_exported": "export.detector",
    "load_model": "models",
    "to_effdet": "weights",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

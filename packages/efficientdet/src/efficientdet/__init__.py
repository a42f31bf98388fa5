"""EfficientDet: BiFPN and scaled heads on any feature pyramid.

Each detector of the table is a function as well: ``efficientdet.efficientdet_d0(num_classes=3)``.
Networks are imported when they are first used, so that a spec table needs no torch.
"""

from typing import TYPE_CHECKING

from compound import __version__
from compound.lazy import lazy_names
from efficientdet.specs import EFFICIENTDET, DetSpec

if TYPE_CHECKING:
    from efficientdet.efficientdet import EfficientDet
    from efficientdet.export.detector import load_exported
    from efficientdet.models import create_model, list_models, load_model
    from efficientdet.postprocess import Detections
    from efficientdet.weights import to_effdet

__all__ = [
    "EFFICIENTDET",
    "DetSpec",
    "Detections",
    "EfficientDet",
    "__version__",
    "create_model",
    "list_models",
    "load_exported",
    "load_model",
    "to_effdet",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Detections": "postprocess",
        "EfficientDet": "efficientdet",
        "create_model": "models",
        "list_models": "models",
        "load_exported": "export.detector",
        "load_model": "models",
        "to_effdet": "weights",
    },
    models=EFFICIENTDET,
)

"""The compound-scaling core: EfficientNet networks from tables of stages.

Each network of the table is a function as well: ``backbone.efficientnet_b0(num_classes=10)``.
Networks are imported when they are first used, so that a spec table needs no torch.
"""

from typing import TYPE_CHECKING

from backbone.specs import EFFICIENTNET, NetSpec, Preprocessing, StageSpec, scale
from compound import __version__
from compound.lazy import lazy_names

if TYPE_CHECKING:
    from backbone.classification.export import load_exported
    from backbone.efficientnet import EfficientNet, EfficientNetTrunk
    from backbone.models import create_model, list_models, load_model
    from backbone.pyramid import Pyramid

__all__ = [
    "EFFICIENTNET",
    "EfficientNet",
    "EfficientNetTrunk",
    "NetSpec",
    "Preprocessing",
    "Pyramid",
    "StageSpec",
    "__version__",
    "create_model",
    "list_models",
    "load_exported",
    "load_model",
    "scale",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "EfficientNet": "efficientnet",
        "EfficientNetTrunk": "efficientnet",
        "Pyramid": "pyramid",
        "create_model": "models",
        "list_models": "models",
        "load_exported": "classification.export",
        "load_model": "models",
    },
    models=EFFICIENTNET,
)

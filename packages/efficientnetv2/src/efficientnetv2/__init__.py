"""EfficientNetV2: Fused-MBConv networks on the compound-scaling core.

Each network of the table is a function as well: ``efficientnetv2_s(num_classes=10)``.
Networks are imported when they are first used, so that a spec table needs no torch.
"""

from typing import TYPE_CHECKING

from compound import __version__
from compound.lazy import lazy_names
from efficientnetv2.specs import EFFICIENTNETV2

if TYPE_CHECKING:
    from efficientnetv2.models import create_model, list_models, load_model

__all__ = ["EFFICIENTNETV2", "__version__", "create_model", "list_models", "load_model"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {"create_model": "models", "list_models": "models", "load_model": "models"},
    models=EFFICIENTNETV2,
)

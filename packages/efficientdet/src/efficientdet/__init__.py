"""EfficientDet: BiFPN and scaled heads on any feature pyramid."""

from efficientdet.efficientdet import EfficientDet as EfficientDet
from efficientdet.models import create_model as create_model
from efficientdet.models import list_models as list_models
from efficientdet.postprocess import Detections as Detections
from efficientdet.specs import EFFICIENTDET as EFFICIENTDET
from efficientdet.specs import DetSpec as DetSpec

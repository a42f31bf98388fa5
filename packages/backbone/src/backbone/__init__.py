"""The compound-scaling core: EfficientNet networks from tables of stages."""

from backbone.efficientnet import EfficientNet as EfficientNet
from backbone.efficientnet import EfficientNetTrunk as EfficientNetTrunk
from backbone.models import create_model as create_model
from backbone.models import list_models as list_models
from backbone.pyramid import Pyramid as Pyramid
from backbone.specs import EFFICIENTNET as EFFICIENTNET
from backbone.specs import NetSpec as NetSpec
from backbone.specs import StageSpec as StageSpec

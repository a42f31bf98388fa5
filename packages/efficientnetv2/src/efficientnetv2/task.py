"""The task ``clsv2``: image classification by the recipe of EfficientNetV2."""

from backbone.classification.task import Classification
from compound.task import Settings


class ClassificationV2(Classification):
    """Image classification with progressive learning; networks and files are those of ``cls``."""

    module = "efficientnetv2.module.EfficientNetV2Module"

    def owns(self, metadata: Settings) -> bool:
        """Return False: a file does not describe the recipe, so that ``cls`` owns it."""
        return False

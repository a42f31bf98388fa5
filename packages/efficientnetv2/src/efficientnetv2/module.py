"""The EfficientNetV2 recipe: ``uv run tools/train.py task=clsv2 model=v2_s``."""

from backbone.classification.module import EfficientNetModule, mixer
from compound.stages import Stage


class EfficientNetV2Module(EfficientNetModule):
    """A classifier whose dropout and mixing follow the stages of progressive learning.

    Any classifier can be trained so, as the paper's Table 10 and 12 do with V1's.
    """

    def regularization(self) -> dict[str, float]:
        """Return the alphas and the dropout that the run is configured with."""
        return self.alphas | {"dropout": self.model.spec.dropout}

    def regularize(self, stage: Stage) -> None:
        """Take over a stage's alphas and dropout."""
        self.mix = mixer(stage.mixup, stage.cutmix, self.label_smoothing, self.num_classes)
        self.model.dropout.p = stage.dropout

"""EfficientNet as a Lightning module: ``tools/train.py task=cls model=b0``."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from timm.data.mixup import Mixup
from torch import Tensor, nn

from backbone.classification.data.datamodule import ClassificationData, data_of
from backbone.classification.data.dataset import Batch
from backbone.classification.ranking import Ranking, RankingCollector, scores_of, write_ranking
from backbone.classification.report import classifier_sections
from backbone.efficientnet import EfficientNet
from compound.errors import UserError
from compound.report.page import Section, Shot
from compound.report.run import never_scored
from compound.report.shots import shot
from compound.training.batch_norm import WARMUP_BATCHES
from compound.training.best import monitored
from compound.training.freeze import Norm
from compound.training.freeze import freeze as freeze_layers
from compound.training.gather import from_first
from compound.training.optim import OptimRecipe
from compound.training.unreadable import Unreadable
from compound.visualize import as_rgb
from compound.weights import metadata_of


class EfficientNetModule(pl.LightningModule):
    """Wire network, loss, mixing and scores to Lightning; any classifier, any recipe.

    Args:
        model: `backbone.create_model` or another package's, with all but the classes bound.
        class_names: classes in the order of the labels; they travel with the checkpoint.
        optim: how the network learns.
        batch_size: pictures of a batch on one device.
        label_smoothing: share of the target that goes to all classes alike.
        mixup: alpha of mixup's beta distribution; 0 is off.
        cutmix: alpha of CutMix's beta distribution; 0 is off. With both, a batch has either.
        freeze: layers that do not learn, see `compound.training.freeze`.
        recompute: stages that are computed again in the backward pass, which saves memory.
        channels_last: lay the network's tensors out channels-last.
        compile: compile the network with ``torch.compile`` after the first 100 batches, in which
            the momenta of batch norms change.
        seed: of what the training itself draws, such as stochastic depth.
    """

    model: EfficientNet
    # What `best.ckpt` may be chosen by.
    monitors = ("val/top1", "val/top5")

    def __init__(
        self,
        *,
        model: Callable[..., EfficientNet],
        class_names: Sequence[str],
        optim: OptimRecipe,
        batch_size: int,
        label_smoothing: float = 0.1,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        freeze: Sequence[str] = (),
        recompute: Sequence[int] = (),
        channels_last: bool = True,
        compile: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        num_classes = len(class_names)
        self.num_classes = num_classes
        self.model = model(num_classes=num_classes, class_names=class_names)
        # All that rebuilding the network takes, as plain values: loads with weights_only.
        # Trackers have the whole configuration.
        self.save_hyperparameters(metadata_of(self.model), logger=False)
        freeze_layers(self.model, freeze)
        self.model.trunk.recomputed = _stages(recompute, len(self.model.trunk.stages))
        _check(self.model, batch_size, label_smoothing, mixup, cutmix)
        if compile and recompute:
            raise UserError("task.compile and task.recompute exclude each other; choose one")
        if channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.compile_later = compile
        self.optim = optim
        self.batch_size = batch_size
        self.label_smoothing = label_smoothing
        self.alphas = {"mixup": mixup, "cutmix": cutmix}
        self.mix = mixer(mixup, cutmix, label_smoothing, num_classes)
        self.seed = seed
        self.unreadable = Unreadable()
        self.best_score = -math.inf
        self._collector = RankingCollector()
        # What pictures were taken for in the best epoch and in the test, in the first process.
        self.rankings: dict[str, Ranking] = {}

    @property
    def min_image_size(self) -> int:
        """Return the side of the smallest pictures that leave the last stage a whole pixel."""
        return 2 ** max(self.model.trunk.channels)

    def setup(self, stage: str) -> None:
        """Tell the trainer's data how the weights want to see pictures."""
        self.inform(data_of(self.trainer))

    def inform(self, data: ClassificationData) -> None:
        """Tell data how the weights want to see pictures."""
        data.preprocessing = self.model.spec.preprocessing

    def forward(self, images: Tensor) -> Tensor:
        """Map uint8 pictures ``(B, C, H, W)`` to logits ``(B, K)``."""
        return self.model(self.model.normalize(images))

    def on_train_epoch_start(self) -> None:
        """Seed what is random in the training, so that a resumed run draws the same."""
        seed = self.seed * 2**20 + self.current_epoch * 2**8 + self.global_rank
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002  timm's mixing draws from it

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Compile in place, which keeps the tensors' names, once the norms' momenta are settled."""
        batches = self.trainer.fit_loop.epoch_loop.total_batch_idx
        if self.compile_later and batches >= WARMUP_BATCHES:
            self.model.compile()
            self.compile_later = False

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Return the loss of a batch."""
        self.unreadable.note(batch.unreadable)
        losses = self.losses(*self.train_outputs(batch))
        size = len(batch.images)
        self.log("train/loss", losses["loss"].detach(), prog_bar=True, batch_size=size)
        return losses["loss"]

    def train_outputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the logits of a training batch, and its targets: soft ones where it is mixed."""
        images, targets = self.model.normalize(batch.images), batch.labels
        if self.mix is not None:
            images, targets = self.mix(images, targets)  # soft targets, smoothed
        return self.model(images), targets

    def losses(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return the ``loss`` of what `train_outputs` returned."""
        smoothing = self.label_smoothing if self.mix is None else 0.0
        return {"loss": F.cross_entropy(logits, targets, label_smoothing=smoothing)}

    def clip(self, max_norm: float) -> None:
        """Clip the norm of all gradients, as Lightning does in a training."""
        nn.utils.clip_grad_norm_(self.model.parameters(), max_norm)

    def postprocess(self, logits: Tensor, _: Tensor) -> Tensor:
        """Return the class probabilities of what `forward` returned for pictures."""
        return logits.float().softmax(1)

    def configure_optimizers(self) -> dict[str, Any]:
        """Return the optimizer and its per-step schedule."""
        return self.optim.configure(self.model, self.trainer, batch_size=self.batch_size)

    def validation_step(self, batch: Batch, _: int) -> Mapping[str, Tensor]:
        """Keep what is likeliest; return each picture's loss and class probabilities."""
        if batch.unreadable:
            raise UserError(
                f"data: {batch.unreadable[0]}; a score without this picture would be wrong"
            )
        logits = self(batch.images).float()
        losses = F.cross_entropy(logits, batch.labels, reduction="none")
        probabilities = self.postprocess(logits, batch.images)
        self._collector.add(batch.indices, batch.labels, probabilities, losses)
        return {"losses": losses, "probabilities": probabilities}

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        """Score the validation split; keep what the best epoch took pictures for."""
        ranking, scores = self._score("val")
        if (score := monitored(self.trainer, scores, "top1")) > self.best_score:
            self.best_score = score
            self._keep("val", ranking, "predictions.csv")

    def on_test_epoch_end(self) -> None:
        """Score the test split; keep what its pictures were taken for."""
        self._keep("test", self._score("test")[0], "predictions_test.csv")

    def _score(self, split: str) -> tuple[Ranking | None, dict[str, float]]:
        """Return what the first process gathered, and its scores."""
        ranking = self._collector.gather()
        scores = from_first({} if ranking is None else scores_of(ranking))
        # Every process has the same scores; there is nothing to reduce.
        for name, value in scores.items():
            self.log(f"{split}/{name}", value, prog_bar=name in ("top1", "loss"))
        return ranking, scores

    def _keep(self, split: str, ranking: Ranking | None, file: str) -> None:
        if ranking is not None:
            self.rankings[split] = ranking
            index = data_of(self.trainer).splits[split]
            path = Path(self.trainer.default_root_dir, file)
            write_ranking(path, ranking, index.class_names, index.name)

    def report(self, data: ClassificationData) -> list[Section]:
        """Return what a report says of the last split that was scored."""
        split = next(reversed(self.rankings), None)
        if split is None:
            return [never_scored()]
        return classifier_sections(self.rankings[split], data.splits[split], split=split)

    def sample_shots(self, data: ClassificationData, count: int) -> list[Shot]:
        """Return training pictures as the network sees them."""
        return [
            shot(as_rgb(sample.image), data.class_names[sample.label])
            for sample in data.samples(count)
            if sample.image is not None
        ]

    def on_fit_end(self) -> None:
        """Say what could not be used, if anything."""
        self.unreadable.tell()


def mixer(mixup: float, cutmix: float, smoothing: float, num_classes: int) -> Mixup | None:
    """Return timm's mixing of a batch with itself in reverse, or None if both are off.

    Each picture draws its lambda, as officially. With both each also draws which of the two it
    gets; the official code mixes the first half of a batch and cuts the second, and takes the
    larger of lambda and 1 - lambda, which only swaps the partners.
    """
    if mixup == cutmix == 0:
        return None
    return Mixup(
        mixup_alpha=mixup,
        cutmix_alpha=cutmix,
        mode="elem",
        label_smoothing=smoothing,
        num_classes=num_classes,
    )


def _check(
    model: EfficientNet, batch_size: int, smoothing: float, mixup: float, cutmix: float
) -> None:
    learns = any(norm.weight.requires_grad for norm in model.modules() if isinstance(norm, Norm))
    if learns and batch_size == 1:
        raise UserError(
            "data.batch_size=1: batch norm needs at least 2 pictures a device; take more "
            "(trainer.accumulate_grad_batches keeps the step), or freeze=[trunk,head]"
        )
    if not 0 <= smoothing < 1:
        raise UserError(f"task.label_smoothing={smoothing}: expected a share in [0, 1)")
    if min(mixup, cutmix) < 0:
        raise UserError(f"task.mixup={mixup}, task.cutmix={cutmix}: expected 0 or more")
    if max(mixup, cutmix) > 0 and batch_size % 2:
        raise UserError(f"data.batch_size={batch_size}: mixing pairs pictures; take an even number")


def _stages(asked: Sequence[int] | int, count: int) -> Sequence[int]:
    asked = [asked] if isinstance(asked, int) else asked
    wrong = [stage for stage in asked if not 0 <= stage < count]
    if wrong:
        raise UserError(f"task.recompute={wrong[0]}: there are stages 0 to {count - 1}")
    return asked

"""EfficientNet as a Lightning module: ``tools/train.py task=cls model=b0``."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch.nn.functional as F
from timm.data.mixup import Mixup
from torch import Tensor

from backbone.classification.data.datamodule import ClassificationData, data_of
from backbone.classification.data.dataset import Batch
from backbone.classification.ranking import Ranking, RankingCollector, scores_of, write_ranking
from backbone.classification.report import classifier_sections
from backbone.efficientnet import EfficientNet
from backbone.grad_checkpointing import checkpoint_stages
from compound.errors import UserError
from compound.report.page import Section, Shot, shot
from compound.training.batch_norm import WARMUP_BATCHES
from compound.training.freeze import Norm
from compound.training.gather import from_first
from compound.training.optim import OptimRecipe
from compound.training.task_module import TaskModule
from compound.visualize import as_rgb


class Classifier(Protocol):
    """What a network needs to be trained as a classifier, besides `compound.hub.mixin.HubMixin`.

    An `EfficientNet` has it; so may any other ``nn.Module``. ``task=clsv2`` also sets the ``p`` of
    its ``dropout``, and ``task.recompute`` needs its ``trunk``.

    Attributes:
        spec: a table with ``name``, ``image_size``, ``dropout``, ``preprocessing`` and
            ``to_dict()``.
        num_classes: number of logits.
        class_names: in the order of the logits, None where they are not known.
        load_report: of its weights, None where they are random.
        run: None; an optimized copy has what runs it.
        mean: of the channels, ``(C, 1, 1)`` on the scale 0..255.
        std: likewise.
        min_image_size: side of the smallest images that it takes, in pixels.
    """

    spec: Any
    num_classes: int
    class_names: tuple[str, ...] | None
    load_report: Any
    run: Any
    mean: Tensor
    std: Tensor
    min_image_size: int

    def normalize(self, images: Tensor) -> Tensor:
        """Map uint8 images ``(B, C, H, W)`` to the network's input."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """Map that to logits ``(B, K)``."""
        ...


class EfficientNetModule(TaskModule):
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

    model: Any  # a `Classifier`
    # What `best.ckpt` may be chosen by.
    monitors = ("val/top1", "val/top5")
    main_score = "top1"
    shown_scores = ("top1", "loss")

    def __init__(
        self,
        *,
        model: Callable[..., Any],
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
        num_classes = len(class_names)
        super().__init__(
            model(num_classes=num_classes, class_names=class_names),
            optim=optim,
            batch_size=batch_size,
            freeze=freeze,
            channels_last=channels_last,
            seed=seed,
        )
        self.num_classes = num_classes
        if recompute or recompute == 0:
            trunk = self.model.trunk
            checkpoint_stages(trunk, _stages(recompute, len(trunk.stages)))
        _check(self.model, batch_size, label_smoothing, mixup, cutmix)
        if compile and recompute:
            raise UserError("task.compile and task.recompute exclude each other; choose one")
        self.compile_later = compile
        self.label_smoothing = label_smoothing
        self.alphas = {"mixup": mixup, "cutmix": cutmix}
        self.mix = mixer(mixup, cutmix, label_smoothing, num_classes)
        self._collector = RankingCollector()

    @property
    def min_image_size(self) -> int:
        """Return the side of the smallest images that leave the last feature map a whole pixel."""
        return self.model.min_image_size

    def inform(self, data: ClassificationData) -> None:
        """Tell data how the weights want to see pictures."""
        data.preprocessing = self.model.spec.preprocessing

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Compile in place, which keeps the tensors' names, once the norms' momenta are settled."""
        batches = self.trainer.fit_loop.epoch_loop.total_batch_idx
        if self.compile_later and batches >= WARMUP_BATCHES:
            self.model.compile()
            self.compile_later = False

    def train_outputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the logits of a training batch, and its targets: soft ones where it is mixed."""
        images, targets = self.model.normalize(batch.images), batch.labels
        if self.mix is not None:
            images, targets = self.mix(images, targets)  # soft targets, smoothed
        return self.model(images), targets

    def losses(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return the ``loss`` of what `train_outputs` returned."""
        smoothing = self.label_smoothing if self.mix is None else 0.0
        return {"loss": F.cross_entropy(outputs, targets, label_smoothing=smoothing)}

    def postprocess(self, logits: Tensor, _: Tensor) -> Tensor:
        """Return the class probabilities of what `forward` returned for pictures."""
        return logits.float().softmax(1)

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

    def score(self, split: str) -> tuple[Mapping[str, float], Ranking | None]:
        """Return the scores, and what the first process gathered."""
        ranking = self._collector.gather()
        return from_first({} if ranking is None else scores_of(ranking)), ranking

    def keep(self, split: str, results: Ranking) -> None:
        """Write what images were taken for: ``predictions.csv``, of a test ``_test``."""
        index = data_of(self.trainer).splits[split]
        name = "predictions.csv" if split == "val" else f"predictions_{split}.csv"
        path = Path(self.trainer.default_root_dir, name)
        write_ranking(path, results, index.class_names, index.name)

    def sections(self, results: Ranking, data: ClassificationData, split: str) -> list[Section]:
        """Return the sections of a report on what images were taken for."""
        return classifier_sections(results, data.splits[split], split=split)

    def sample_shots(self, data: ClassificationData, count: int) -> list[Shot]:
        """Return training pictures as the network sees them."""
        return [
            shot(as_rgb(sample.image), data.class_names[sample.label])
            for sample in data.samples(count)
            if sample.image is not None
        ]


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

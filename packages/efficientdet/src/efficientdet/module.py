"""EfficientDet as a Lightning module: ``tools/train.py task=det model=d0``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from backbone.errors import UserError
from backbone.train.freeze import freeze as freeze_layers
from backbone.train.optim import OptimRecipe, clip_each
from backbone.train.unreadable import Unreadable
from efficientdet.data.dataset import Batch
from efficientdet.data.module import data_of
from efficientdet.evaluation import CocoEvaluator, CocoScores, score, write_results
from efficientdet.loss import detection_loss
from efficientdet.matcher import assign
from efficientdet.models import create_model
from efficientdet.postprocess import Detections


class EfficientDetModule(pl.LightningModule):
    """Wire network, matching, loss and evaluation to Lightning.

    Args:
        model: arguments of `create_model` other than ``num_classes``.
        class_names: classes in the order of the labels; they travel with the checkpoint.
        optim: how the network learns.
        batch_size: pictures of a batch on one device.
        loss: arguments of `detection_loss`.
        freeze: layers that do not learn, see `backbone.train.freeze`.
        seed: of what the training itself draws, such as stochastic depth.
    """

    def __init__(
        self,
        *,
        model: Mapping[str, Any],
        class_names: Sequence[str],
        optim: OptimRecipe,
        batch_size: int,
        loss: Mapping[str, float] | None = None,
        freeze: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        super().__init__()
        # All that rebuilding the network takes, as plain values: loads with weights_only.
        rebuild = {key: value for key, value in model.items() if key != "weights"}
        self.save_hyperparameters({"model": rebuild, "class_names": list(class_names)})
        self.model = create_model(**model, num_classes=len(class_names))
        freeze_layers(self.model, freeze)
        self.optim = optim
        self.batch_size = batch_size
        self.loss = dict(loss or {})
        self.seed = seed
        self.unreadable = Unreadable()
        self.class_ap: dict[str, float] = {}
        self.best_map = -1.0
        self._evaluator: CocoEvaluator | None = None

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Map uint8 pictures ``(B, 3, H, W)`` to class logits and box codes by level."""
        return self.model(self.model.normalize(images))

    def on_train_epoch_start(self) -> None:
        """Seed what is random in the network, so that a resumed run draws the same."""
        torch.manual_seed(self.seed * 2**20 + self.current_epoch * 2**8 + self.global_rank)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Return the loss of a batch."""
        self.unreadable.note(batch.unreadable)
        class_logits, box_codes = self(batch.images)
        targets = assign(self.model.anchors(batch.images), batch.boxes, batch.labels)
        loss = detection_loss(class_logits, box_codes, targets, **self.loss)
        size = len(batch.images)
        self.log("train/loss", loss.total.detach(), prog_bar=True, batch_size=size)
        self.log("train/loss_class", loss.classes.detach(), batch_size=size)
        self.log("train/loss_box", loss.boxes.detach(), batch_size=size)
        return loss.total

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip each gradient's norm, then the norm of all (official ``clip_gradients_norm``)."""
        if gradient_clip_val:
            clip_each(self.parameters(), gradient_clip_val)
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def configure_optimizers(self) -> dict[str, Any]:
        """Return the optimizer and its per-step schedule."""
        return self.optim.configure(self.model, self.trainer, batch_size=self.batch_size)

    def on_validation_epoch_start(self) -> None:
        """Begin to collect detections."""
        self._evaluator = CocoEvaluator(data_of(self.trainer).splits["val"])

    def on_test_epoch_start(self) -> None:
        """Begin to collect detections."""
        self._evaluator = CocoEvaluator(data_of(self.trainer).splits["test"])

    def validation_step(self, batch: Batch, _: int) -> dict[str, list[Detections]]:
        """Keep what is found for the score; return it in pixels of the network's input."""
        if batch.unreadable:
            raise UserError(
                f"data: {batch.unreadable[0]}; a score without this picture would be wrong, so "
                "mend it or take it out of the annotations"
            )
        assert self._evaluator is not None
        found = self.model.predict(batch.images)
        for image_id, detections in zip(
            batch.image_ids.tolist(), to_source(found, batch), strict=True
        ):
            self._evaluator.add(image_id, detections)
        return {"detections": found}

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        """Score the validation split; keep the best detections as ``predictions.json``."""
        scores, results = self._score("val")
        if scores.metrics["mAP"] > self.best_map:
            self.best_map = scores.metrics["mAP"]
            self.class_ap = scores.class_ap
            if self.trainer.is_global_zero:
                write_results(Path(self.trainer.default_root_dir) / "predictions.json", results)

    def on_test_epoch_end(self) -> None:
        """Score the test split."""
        self._score("test")

    def _score(self, split: str) -> tuple[CocoScores, np.ndarray]:
        assert self._evaluator is not None
        results = self._evaluator.results()
        scores = score(self._evaluator.index, results, self._evaluator.image_ids())
        # Every process has scored the same rows; there is nothing to reduce.
        for name, value in scores.metrics.items():
            self.log(f"{split}/{name}", value, prog_bar=name in ("mAP", "AP50"))
        return scores, results

    def on_fit_end(self) -> None:
        """Say what could not be used, if anything."""
        self.unreadable.tell()


def to_source(found: Sequence[Detections], batch: Batch) -> list[Detections]:
    """Bring detections from the network's input to the original pictures, and inside them."""
    network_size = torch.tensor(batch.images.shape[-2:], device=batch.images.device)
    source = batch.source_sizes.double()
    # `ScaleJitter` scaled each picture until it fitted, and rounded the sides to whole pixels.
    fitted = (source * (network_size / source).amin(1, keepdim=True)).round().clamp(min=1)
    limits = source.flip(1).repeat(1, 2).float()  # (B, 4) width, height, width, height
    factors = (source / fitted).flip(1).repeat(1, 2).float()
    return [
        d._replace(boxes_xyxy=(d.boxes_xyxy * factor).clamp(min=0).minimum(limit))
        for d, factor, limit in zip(found, factors, limits, strict=True)
    ]

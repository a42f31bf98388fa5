"""What a detector shows on Weights & Biases besides its scalars."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import wandb
from pytorch_lightning.loggers import WandbLogger
from torch import Tensor

from backbone.train.trackers import attempt, log_weights
from efficientdet.data.dataset import Batch
from efficientdet.data.module import data_of
from efficientdet.module import EfficientDetModule
from efficientdet.postprocess import Detections


class WandbMedia(pl.Callback):
    """Log pictures with boxes while training, AP per class and the best weights at the end.

    Without a W&B logger it does nothing.

    Args:
        every_n_epochs: how often pictures are logged.
        num_pictures: how many; always the first process's first ones of the validation split.
        min_score: detections below this are not drawn.
    """

    def __init__(self, *, every_n_epochs: int, num_pictures: int, min_score: float) -> None:
        self.every_n_epochs = every_n_epochs
        self.num_pictures = num_pictures
        self.min_score = min_score
        self._pictures: list[wandb.Image] = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Mapping[str, Any],
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first pictures with what was found in them."""
        last = trainer.current_epoch + 1 == trainer.max_epochs
        due = last or (trainer.current_epoch + 1) % self.every_n_epochs == 0
        left = self.num_pictures - len(self._pictures)
        if due and left > 0 and trainer.is_global_zero:
            names = data_of(trainer).class_names
            found = outputs["detections"]
            attempt(trainer, lambda _: self._keep(batch, found, names, left))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the pictures that were kept."""
        if self._pictures:
            payload = {"val/pictures": self._pictures, "trainer/global_step": trainer.global_step}
            attempt(trainer, lambda logger: logger.experiment.log(payload))
        self._pictures = []

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log AP per class and the best weights."""
        assert isinstance(pl_module, EfficientDetModule)
        if not trainer.is_global_zero:
            return
        attempt(trainer, lambda logger: _log_class_ap(logger, pl_module.class_ap))
        best = Path(getattr(trainer.checkpoint_callback, "best_model_path", ""))
        if best.is_file():
            attempt(trainer, lambda logger: log_weights(logger, best))

    def _keep(
        self, batch: Batch, found: Sequence[Detections], names: tuple[str, ...], count: int
    ) -> None:
        for picture, boxes, labels, detections in zip(
            batch.images[:count], batch.boxes, batch.labels, found, strict=False
        ):
            self._pictures.append(self._image(picture, boxes, labels, detections, names))

    def _image(
        self,
        picture: Tensor,
        boxes: Tensor,
        labels: Tensor,
        found: Detections,
        names: tuple[str, ...],
    ) -> wandb.Image:
        keep = found.scores >= self.min_score
        layers = {
            "ground_truth": _layer(boxes, labels, None, names),
            "predictions": _layer(
                found.boxes_xyxy[keep], found.labels[keep], found.scores[keep], names
            ),
        }
        return wandb.Image(picture.permute(1, 2, 0).cpu().numpy(), boxes=layers)


def _layer(
    boxes: Tensor, labels: Tensor, scores: Tensor | None, names: tuple[str, ...]
) -> dict[str, Any]:
    """Return a W&B box layer: plain Python numbers, pixels of the picture."""
    data = []
    for row, (box, label) in enumerate(zip(boxes.tolist(), labels.tolist(), strict=True)):
        x0, y0, x1, y1 = box
        entry: dict[str, Any] = {
            "position": {"minX": x0, "minY": y0, "maxX": x1, "maxY": y1},
            "domain": "pixel",
            "class_id": int(label),
            "box_caption": names[label],
        }
        if scores is not None:
            entry["scores"] = {"score": float(scores[row])}
            entry["box_caption"] += f" {float(scores[row]):.2f}"
        data.append(entry)
    return {"box_data": data, "class_labels": dict(enumerate(names))}


def _log_class_ap(logger: WandbLogger, class_ap: Mapping[str, float]) -> None:
    rows = [[name, ap] for name, ap in class_ap.items()]
    logger.experiment.log({"val/AP_per_class": wandb.Table(columns=["class", "AP"], data=rows)})

"""What a detector shows on Weights & Biases and TensorBoard besides its scalars."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
import wandb
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from wandb.plot.custom_chart import CustomChart

from compound.tracking.trackers import attempt, is_tracked
from compound.tracking.wandb_run import STEP, table_of
from efficientdet.data.datamodule import DetectionData, data_of
from efficientdet.data.dataset import Batch
from efficientdet.data.index import AnnotationIndex
from efficientdet.evaluation.curves import PrecisionRecall, class_rows, precision_recall
from efficientdet.evaluation.evaluator import Results
from efficientdet.evaluation.pairs import pair_up
from efficientdet.module import EfficientDetModule
from efficientdet.postprocess import Detections
from efficientdet.predictor import in_source
from efficientdet.visualize import draw

# W&B draws no more points of a chart.
MAX_POINTS = 10_000


class _Shown(NamedTuple):
    """A picture ``(H, W, 3)`` uint8 RGB with its objects and detections, in its pixels."""

    picture: np.ndarray
    name: str
    truth: Detections
    found: Detections


class DetectorMedia(pl.Callback):
    """Log pictures with boxes while training; precision over recall and classes at the end.

    The pictures are the same each time, spread over what the first process sees of the validation
    split, those with objects first. They go to W&B, where classes and scores can be filtered, and
    to TensorBoard, objects on the left and detections on the right; the rest goes to W&B.

    Args:
        every_n_epochs: how often pictures are logged.
        num_pictures: how many.
        min_score: detections below this are left out.
    """

    def __init__(self, *, every_n_epochs: int, num_pictures: int, min_score: float) -> None:
        self.every_n_epochs = every_n_epochs
        self.num_pictures = num_pictures
        self.min_score = min_score
        self._rows: dict[int, int] = {}
        self._shown: list[_Shown] = []

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Choose the pictures, if they are to be logged this time."""
        self._rows, self._shown = {}, []
        last = trainer.current_epoch + 1 == trainer.max_epochs
        due = last or (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if due and is_tracked(trainer, WandbLogger, TensorBoardLogger):
            data = data_of(trainer)
            index = data.splits["val"]
            rows = chosen_rows(index, _seen_rows(trainer, data), self.num_pictures)
            self._rows = {int(index.image_ids[row]): int(row) for row in rows}

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Mapping[str, Any],
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the chosen pictures with what was found in them."""
        size = (batch.images.shape[-2], batch.images.shape[-1])
        for place, image_id in enumerate(batch.image_ids.tolist() if self._rows else ()):
            row = self._rows.get(image_id)
            if row is None:
                continue
            labels = batch.labels[place].cpu()
            found = Detections(*(column.cpu() for column in outputs["detections"][place]))
            found = in_source(found, size, size)  # boxes may reach far beyond the picture
            keep = found.scores >= self.min_score
            self._shown.append(
                _Shown(
                    batch.images[place].permute(1, 2, 0).cpu().numpy(),
                    str(data_of(trainer).splits["val"].file_names[row]),
                    Detections(batch.boxes[place].cpu(), torch.ones(len(labels)), labels),
                    Detections(*(column[keep] for column in found)),
                )
            )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the pictures that were kept."""
        if not self._shown:
            return
        names, step, shown = data_of(trainer).class_names, trainer.global_step, self._shown

        def to_wandb(logger: WandbLogger) -> None:
            pictures = [picture_of(s.picture, s.name, s.truth, s.found, names) for s in shown]
            logger.experiment.log({"val/pictures": pictures, STEP: step})

        def to_tensorboard(logger: TensorBoardLogger) -> None:
            pairs = [[draw(s.picture, d, names) for d in (s.truth, s.found)] for s in shown]
            drawn = np.stack([np.hstack(pair) for pair in pairs])
            logger.experiment.add_images("val/pictures", drawn, step, dataformats="NHWC")

        attempt(trainer, WandbLogger, to_wandb)
        attempt(trainer, TensorBoardLogger, to_tensorboard)
        self._rows, self._shown = {}, []

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log what the best validation found."""
        assert isinstance(pl_module, EfficientDetModule)
        results = pl_module.results.get("val")
        if results is not None and is_tracked(trainer, WandbLogger):
            index, step = data_of(trainer).splits["val"], trainer.global_step

            def to_wandb(logger: WandbLogger) -> None:
                logger.experiment.log({**class_charts(index, results), STEP: step})

            attempt(trainer, WandbLogger, to_wandb)


def chosen_rows(index: AnnotationIndex, seen: np.ndarray, count: int) -> np.ndarray:
    """Return pictures to be shown, evenly spread over those with objects, then over the others.

    Args:
        index: the split.
        seen: ``(S,)`` rows to choose from.
        count: how many.
    """
    full = np.diff(index.offsets)[seen] > 0
    chosen = _spread(seen[full], count)
    return np.concatenate([chosen, _spread(seen[~full], count - len(chosen))])


def _spread(rows: np.ndarray, count: int) -> np.ndarray:
    """Return ``count`` of the rows at equal distances, or all that there are."""
    count = min(count, len(rows))
    return rows[np.arange(count) * len(rows) // max(1, count)]


def _seen_rows(trainer: pl.Trainer, data: DetectionData) -> np.ndarray:
    """Return the rows of the validation split that this process looks at, see `PartSampler`."""
    rows = np.arange(trainer.global_rank, len(data.splits["val"]), trainer.world_size)
    return rows[: int(trainer.num_val_batches[0]) * data.batch_size]


def picture_of(
    picture: np.ndarray,
    name: str,
    truth: Detections,
    found: Detections,
    class_names: Sequence[str],
) -> wandb.Image:
    """Return a picture with two layers of boxes that W&B filters by class, and one by score."""
    boxes = {
        "ground_truth": _layer(truth, class_names, scored=False),
        "predictions": _layer(found, class_names, scored=True),
    }
    # As JPEG: many epochs' pictures are uploaded.
    return wandb.Image(picture, caption=name, boxes=boxes, file_type="jpg")


def _layer(boxes: Detections, names: Sequence[str], *, scored: bool) -> dict[str, Any]:
    """Return a W&B box layer: plain Python numbers, pixels of the picture."""
    data = []
    columns = (column.tolist() for column in boxes)
    for (x0, y0, x1, y1), score, label in zip(*columns, strict=True):
        entry: dict[str, Any] = {
            "position": {"minX": x0, "minY": y0, "maxX": x1, "maxY": y1},
            "domain": "pixel",
            "class_id": label,
            "box_caption": names[label],
        }
        if scored:
            entry["scores"] = {"score": score}
            entry["box_caption"] += f" {score:.2f}"
        data.append(entry)
    return {"box_data": data, "class_labels": dict(enumerate(names))}


def class_charts(index: AnnotationIndex, results: Results) -> dict[str, Any]:
    """Return a table of classes and their curves at an IoU of 0.5, as W&B takes them."""
    pairs = pair_up(index, results.rows, results.image_ids, max_detections=results.max_detections)
    return {
        "val/per_class": table_of(class_rows(pairs, results.curves)),
        "val/precision_recall": _curves(precision_recall(results.curves), index.class_names),
    }


def _curves(found: PrecisionRecall, class_names: Sequence[str]) -> CustomChart:
    """Return precision over recall of all classes and of each that has objects, as W&B's plot."""
    lines = {"all classes": found.at50}
    named = zip(class_names, found.classes_at50, strict=True)
    lines |= {name: line for name, line in named if not np.isnan(line).any()}
    every = -(-len(lines) * len(found.recalls) // MAX_POINTS)
    table = wandb.Table(["class", "recall", "precision"])
    for name, line in lines.items():
        for recall, precision in zip(found.recalls[::every], line[::every], strict=True):
            if precision == precision:  # nan where the split has no objects at all
                table.add_data(name, float(recall), round(float(precision), 4))
    # What `wandb.plot.pr_curve` makes of labels and scores.
    return wandb.plot_table(
        "wandb/area-under-curve/v0",
        table,
        {"x": "recall", "y": "precision", "class": "class"},
        {
            "title": "Precision over recall, IoU 0.5",
            "x-axis-title": "Recall",
            "y-axis-title": "Precision",
        },
    )

"""EfficientDet as a Lightning module: ``tools/train.py task=det model=d0``."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from compound.errors import UserError, closest
from compound.report.page import Section, Shot
from compound.training.optim import OptimRecipe, clip_each
from compound.training.task_module import TaskModule
from efficientdet.data.datamodule import DetectionData, data_of
from efficientdet.data.dataset import Batch
from efficientdet.efficientdet import EfficientDet
from efficientdet.evaluation.evaluator import (
    CocoEvaluator,
    EvaluationOptions,
    Results,
    write_class_ap,
    write_results,
)
from efficientdet.loss import detection_loss
from efficientdet.matcher import assign
from efficientdet.models import create_model
from efficientdet.postprocess import METHODS, Detections, postprocess
from efficientdet.predictor import in_source
from efficientdet.report import detector_sections, sample_shot

# Class logits and box codes by level.
Outputs = tuple[list[Tensor], list[Tensor]]


class EfficientDetModule(TaskModule):
    """Wire network, matching, loss and evaluation to Lightning.

    Args:
        model: arguments of `create_model` other than ``num_classes``.
        class_names: classes in the order of the labels; they travel with the checkpoint.
        optim: how the network learns.
        batch_size: pictures of a batch on one device.
        loss: arguments of `detection_loss`.
        predict: arguments of `EfficientDet.predict` for what is scored.
        evaluation: attributes of `EvaluationOptions`.
        freeze: layers that do not learn, see `compound.training.freeze`.
        recompute: parts that are computed again in the backward pass, which saves memory:
            ``backbone``, ``bifpn``, ``heads``.
        channels_last: lay the network's tensors out channels-last.
        seed: of what the training itself draws, such as stochastic depth.
    """

    model: EfficientDet
    main_score = "mAP"
    shown_scores = ("mAP", "AP50")

    def __init__(
        self,
        *,
        model: Mapping[str, Any],
        class_names: Sequence[str],
        optim: OptimRecipe,
        batch_size: int,
        loss: Mapping[str, float] | None = None,
        predict: Mapping[str, Any] | None = None,
        evaluation: Mapping[str, Any] | None = None,
        freeze: Sequence[str] = (),
        recompute: Sequence[str] = (),
        channels_last: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(
            create_model(**model, num_classes=len(class_names), class_names=class_names),
            optim=optim,
            batch_size=batch_size,
            freeze=freeze,
            channels_last=channels_last,
            seed=seed,
        )
        self.model.recompute([recompute] if isinstance(recompute, str) else recompute or ())
        self.loss = dict(loss or {})
        self.predict_settings = dict(predict or {})
        check_predict(self.predict_settings)
        self.class_ap: dict[str, float] = {}
        self.evaluation = EvaluationOptions(**(evaluation or {}))
        self._evaluator: CocoEvaluator | None = None

    @property
    def monitors(self) -> tuple[str, ...]:
        """Return what `best.ckpt` may be chosen by."""
        names = (*self.evaluation.metrics, *(("VOC_AP50",) if self.evaluation.voc else ()))
        return tuple(f"val/{name}" for name in names)

    @property
    def min_image_size(self) -> int:
        """Return the side of the smallest pictures that leave the last level a whole pixel."""
        return 2**self.model.spec.max_level

    def inform(self, data: DetectionData) -> None:
        """Tell data what the network takes for no picture: the colour that becomes zero."""
        data.pad_colour = self.model.pad_colour

    def train_outputs(self, batch: Batch) -> tuple[Outputs, Batch]:
        """Return the outputs for a training batch, and the batch, which has the objects."""
        return self(batch.images), batch

    def losses(self, outputs: Outputs, targets: Batch) -> dict[str, Tensor]:
        """Match anchors with the objects of a batch; return the ``loss`` and its parts."""
        matched = assign(self.model.anchors(targets.images), targets.boxes, targets.labels)
        loss = detection_loss(*outputs, matched, **self.loss)
        return {"loss": loss.total, "loss_class": loss.classes, "loss_box": loss.boxes}

    def clip(self, max_norm: float) -> None:
        """Clip gradients, as `configure_gradient_clipping` does in a training."""
        clip_each(self.parameters(), max_norm)
        nn.utils.clip_grad_norm_(self.parameters(), max_norm)

    def postprocess(self, outputs: Outputs, images: Tensor) -> list[Detections]:
        """Return what is found in pictures by one look at them.

        Raises:
            UserError: the predictions are configured to take several looks.
        """
        settings = dict(self.predict_settings)
        for key, none in (("flip", False), ("scales", [1.0])):
            value = settings.pop(key, none)
            if value != none:
                raise UserError(f"task.predict.{key}={value}: only without test-time augmentation")
        settings.pop("fusion_iou", None)
        return postprocess(
            *outputs,
            self.model.anchors(images),
            max_detections=self.evaluation.max_detections,
            **settings,
        )

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip each gradient's norm, then the norm of all (official ``clip_gradients_norm``).

        Officially the weight decay is part of what is clipped; here the optimizer adds it later.
        """
        if gradient_clip_val:
            clip_each(self.parameters(), gradient_clip_val)
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_validation_epoch_start(self) -> None:
        """Begin to collect detections."""
        self._collect("val")

    def on_test_epoch_start(self) -> None:
        """Begin to collect detections."""
        self._collect("test")

    def _collect(self, split: str) -> None:
        index = data_of(self.trainer).splits[split]
        if self._evaluator is None or self._evaluator.index is not index:
            self._evaluator = CocoEvaluator(index, self.evaluation)
        self._evaluator.reset()

    def validation_step(self, batch: Batch, _: int) -> dict[str, list[Detections]]:
        """Keep what is found for the score; return it in pixels of the network's input."""
        if batch.unreadable:
            raise UserError(
                f"data: {batch.unreadable[0]}; a score without this picture would be wrong, so "
                "mend it or take it out of the annotations"
            )
        assert self._evaluator is not None
        found = self.model.predict(
            batch.images,
            max_detections=self.evaluation.max_detections,
            **self.predict_settings,
        )
        for image_id, detections in zip(
            batch.image_ids.tolist(), to_source(found, batch), strict=True
        ):
            self._evaluator.add(image_id, detections)
        return {"detections": found}

    test_step = validation_step

    def score(self, split: str) -> tuple[Mapping[str, float], Results | None]:
        """Return the scores, and in the first process the detections."""
        assert self._evaluator is not None
        scores, results = self._evaluator.evaluate()
        return scores.metrics, results

    def keep(self, split: str, results: Results) -> None:
        """Write AP of each class, and the detections in the validation split."""
        self.class_ap = results.scores.class_ap
        folder = Path(self.trainer.default_root_dir)
        if split == "val":
            write_results(folder / "predictions.json", results.rows)
        name = "class_ap.csv" if split == "val" else f"class_ap_{split}.csv"
        write_class_ap(folder / name, self.class_ap)

    def sections(self, results: Results, data: DetectionData, split: str) -> list[Section]:
        """Return the sections of a report on detections."""
        return detector_sections(results, data.splits[split], split=split)

    def score_details(self) -> Mapping[str, Mapping[str, float]]:
        """Return the AP of each class."""
        return {"class_ap": self.class_ap}

    def sample_shots(self, data: DetectionData, count: int) -> list[Shot]:
        """Return training pictures as the network sees them."""
        return [sample_shot(sample, data.splits["train"]) for sample in data.samples(count)]


def check_predict(settings: Mapping[str, Any]) -> None:
    """Refuse before the training what would only fail in its first validation.

    Raises:
        UserError: there is no such setting, or its value is of no use.
    """
    known = set(inspect.signature(EfficientDet.predict).parameters)
    for key in settings:
        what = "setting of task.predict"
        closest(key, sorted(known - {"self", "images", "batch_size", "max_detections"}), what=what)
    given = {"method": "per_class", "flip": False, "scales": [1.0], "sigma": 0.5, **settings}
    closest(str(given["method"]), METHODS, what="task.predict.method")
    scales = given["scales"]
    numbers = isinstance(scales, Sequence) and all(isinstance(s, int | float) for s in scales)
    for key, sound, expected in (
        ("scales", scales and numbers and min(scales) > 0, "factors above 0, such as [1.0]"),
        ("flip", isinstance(given["flip"], bool), "true or false"),
        ("sigma", _is_number(given["sigma"]) and given["sigma"] > 0, "a number above 0"),
        *(
            (key, _is_number(given[key]) and 0 <= given[key] <= 1, "a share in [0, 1]")
            for key in ("score_threshold", "nms_iou", "fusion_iou")
            if key in given
        ),
    ):
        if not sound:
            raise UserError(f"task.predict.{key}={given[key]}: expected {expected}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def to_source(found: Sequence[Detections], batch: Batch) -> list[Detections]:
    """Bring detections from the network's input to the original pictures, and inside them."""
    height, width = batch.images.shape[-2:]
    sizes = batch.source_sizes.tolist()
    return [
        in_source(d, (source[0], source[1]), (height, width))
        for d, source in zip(found, sizes, strict=True)
    ]

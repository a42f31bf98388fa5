"""Detectors as programs: their outputs by level, or detections with everything inside."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from compound.errors import UserError, closest
from compound.export.folding import fold
from compound.export.program import Program, sizes, trace
from compound.weights import metadata_of
from efficientdet.anchors import ANCHORS_PER_PLACE, anchors_of
from efficientdet.boxes import decode
from efficientdet.efficientdet import EfficientDet
from efficientdet.export.suppress import TRANSLATIONS, suppress
from efficientdet.postprocess import FAR, METHODS, Method
from efficientdet.specs import DetSpec, both_sides

DETECTIONS = ("boxes_xyxy", "scores", "labels", "counts")


class _Outputs(nn.Module):
    """From uint8 pictures to class logits and box codes by level."""

    def __init__(self, network: EfficientDet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        class_logits, box_codes = self.network(self.network.normalize(images))
        return (*class_logits, *box_codes)


class Finished(nn.Module):
    """From uint8 pictures to detections, as `postprocess` finds them, in tensors of fixed sizes.

    Args:
        network: the detector.
        method: with hard suppression.
        score_threshold: lowest score that is kept.
        nms_iou: boxes that overlap more than this are one.
        max_candidates: pairs of anchor and class that go into NMS.
        max_detections: D, detections of a picture.

    Raises:
        UserError: the method is soft, for which no runtime has an operator.
    """

    def __init__(
        self,
        network: EfficientDet,
        *,
        method: Method = "per_class",
        score_threshold: float = 0.001,
        nms_iou: float = 0.5,
        max_candidates: int = 5000,
        max_detections: int = 100,
    ) -> None:
        super().__init__()
        self.way = METHODS[closest(method, METHODS, what="method")]
        if self.way.soft:
            raise UserError(f"method={method}: runtimes suppress hard only; leave nms=false")
        self.settings = {
            "method": method,
            "score_threshold": score_threshold,
            "nms_iou": nms_iou,
            "max_candidates": max_candidates,
            "max_detections": max_detections,
        }
        self.network = network
        self.least = torch.tensor(score_threshold, dtype=torch.float64).logit().item()
        self.nms_iou = nms_iou
        self.max_candidates = max_candidates
        self.max_detections = max_detections

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Map ``(B, 3, H, W)`` to boxes ``(B, D, 4)``, scores, labels ``(B, D)``, counts ``(B,)``.

        Of a picture the first ``counts`` rows are detections, best first; the scores of the
        others are 0.
        """
        class_logits, box_codes = self.network(self.network.normalize(images))
        logits, codes = _rows(class_logits), _rows(box_codes)
        values, rows, labels = self._candidates(logits)
        anchors = anchors_of(self.network.spec, (images.shape[-2], images.shape[-1]))
        boxes = decode(_taken(codes, rows), anchors[rows])
        scores = torch.where(values >= self.least, values.sigmoid(), torch.zeros_like(values))
        across = self.way.across_classes
        kept = suppress(
            boxes.clamp(-FAR, FAR),
            scores,
            torch.zeros_like(labels) if across else labels,
            self.nms_iou,
            1 if across else self.network.num_classes,
            self.max_detections,
        )
        remaining = torch.where(kept, scores, torch.zeros_like(scores))
        best, order = remaining.topk(min(self.max_detections, remaining.shape[1]))
        counts = (best > 0).sum(1)
        return _taken(boxes, order), best, labels.gather(1, order), counts

    def _candidates(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logit, row and label of each picture's best pairs of ``(B, N, K)``."""
        peaks, rows = logits.amax(2).topk(min(self.max_candidates, logits.shape[1]))
        own = _taken(logits, rows)
        if self.way.one_label:
            return peaks, rows, own.argmax(2)
        flat = own.flatten(1)
        values, best = flat.topk(min(self.max_candidates, flat.shape[1]))
        num_classes = self.network.num_classes
        return values, rows.gather(1, best // num_classes), best % num_classes


def detector_program(
    model: EfficientDet,
    *,
    image_size: int | Sequence[int] | None = None,
    batch_size: int | None = None,
    any_size: bool = False,
    nms: dict[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    license: str | None = None,
) -> Program:
    """Trace a detector that takes uint8 pictures ``(B, 3, H, W)``.

    Its outputs are ``class_logits_<level>`` ``(B, A * K, h, w)`` and ``box_codes_<level>``
    ``(B, A * 4, h, w)`` as in `EfficientDet.forward`, or with ``nms`` those of `Finished`.

    Args:
        model: stays as it is.
        image_size: side, or height and width, of the pictures; None for the model's.
        batch_size: how many of them at a time; None for any number.
        any_size: whether height and width may be any multiples of the coarsest level's stride,
            128 of most variants, from twice on.
        nms: arguments of `Finished`.
        metrics: see `metadata_of`.
        license: see `metadata_of`.

    Raises:
        UserError: a setting is of no use.
    """
    network = deepcopy(model).cpu()
    fold(network)
    size = model.image_size if image_size is None else both_sides(image_size)
    network.image_size, network.spec = size, replace(model.spec, image_size=size)
    multiple = 2**model.spec.max_level if any_size else None
    finished = None if nms is None else Finished(network, **nms).eval()
    exported = trace(
        _Outputs(network).eval() if finished is None else finished,
        (batch_size or 1, 3, *size),
        any_batch=batch_size is None,
        multiple=multiple,
    )
    metadata = metadata_of(network, metrics=metrics, license=license)
    settled = None if finished is None else finished.settings
    metadata |= {"batch_size": batch_size, "sizes": sizes(size, multiple), "nms": settled}
    outputs = _names(network.spec) if finished is None else DETECTIONS
    return Program(exported, outputs, metadata, TRANSLATIONS)


def _names(spec: DetSpec) -> tuple[str, ...]:
    kinds = ("class_logits", "box_codes")
    return tuple(f"{kind}_{level}" for kind in kinds for level in spec.levels)


def _rows(levels: Sequence[Tensor]) -> Tensor:
    """Return ``(B, A * C, h, w)`` a level as ``(B, N, C)``, in the order of `make_anchors`."""
    rows = [level.unflatten(1, (ANCHORS_PER_PLACE, -1)).permute(0, 3, 4, 1, 2) for level in levels]
    return torch.cat([level.flatten(1, 3) for level in rows], 1)


def _taken(values: Tensor, rows: Tensor) -> Tensor:
    """Return rows ``(B, n)`` of each picture's ``(B, N, C)``."""
    return values.gather(1, rows[..., None].expand(-1, -1, values.shape[2]))

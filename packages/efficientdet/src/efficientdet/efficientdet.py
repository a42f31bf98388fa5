"""EfficientDet: any feature pyramid, BiFPN, and two heads (arXiv:1911.09070, Sec. 4).

Shapes: B = batch, A = anchors a place (9), K = classes.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from backbone import EFFICIENTNET, EfficientNetTrunk, Pyramid
from efficientdet.anchors import ANCHORS_PER_PLACE, make_anchors
from efficientdet.bifpn import BiFPN
from efficientdet.heads import PRIOR_BIAS, Head
from efficientdet.postprocess import Detections, postprocess
from efficientdet.specs import DetSpec, both_sides

# ImageNet statistics on the scale of 0..255.
MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)


class EfficientDet(nn.Module):
    """The detector.

    Args:
        spec: the variant's row.
        num_classes: K.
        image_size: the side, or height and width, it is used at; kept for those who ask, any works.
        pyramid: the backbone; by default the spec's own EfficientNet.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        spec: DetSpec,
        *,
        num_classes: int = 90,
        image_size: int | Sequence[int] | None = None,
        pyramid: Pyramid | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.num_classes = num_classes
        self.image_size = both_sides(image_size or spec.image_size)
        if pyramid is None:
            net = replace(EFFICIENTNET[spec.backbone], survival=spec.backbone_survival)
            pyramid = EfficientNetTrunk(net)
        self.pyramid = pyramid
        self.bifpn = BiFPN(
            {level: c for level, c in pyramid.channels.items() if level >= spec.min_level},
            spec.fpn_channels,
            cells=spec.fpn_cells,
            max_level=spec.max_level,
            fusion=spec.fusion,
        )
        self.class_head = self._head(num_classes, PRIOR_BIAS)
        self.box_head = self._head(4, 0.0)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)
        self._anchors: dict[tuple[int, int, torch.device], Tensor] = {}

    def _head(self, outputs: int, bias: float) -> Head:
        return Head(
            self.spec.fpn_channels,
            ANCHORS_PER_PLACE * outputs,
            repeats=self.spec.head_repeats,
            levels=self.spec.levels,
            bias=bias,
        )

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return class logits and box codes, one tensor a level.

        Args:
            images: ``(B, 3, H, W)`` normalised (see `normalize`); any H and W.

        Returns:
            Logits ``(B, A * K, h, w)`` and codes ``(B, A * 4, h, w)`` as ``(ty, tx, th, tw)``.
        """
        features = self.bifpn(self.pyramid(images))
        return self.class_head(features), self.box_head(features)

    def normalize(self, images: Tensor) -> Tensor:
        """Turn uint8 pictures ``(B, 3, H, W)`` into what `forward` takes."""
        return (images - self.mean) / self.std

    def anchors(self, images: Tensor) -> Tensor:
        """Return the anchors for pictures of this size, ``(places * A, 4)`` xyxy; cached."""
        height, width = images.shape[-2:]
        key = (height, width, images.device)
        if key not in self._anchors:
            self._anchors[key] = make_anchors(
                (height, width),
                self.spec.levels,
                scale=self.spec.anchor_scale,
                device=images.device,
            )
        return self._anchors[key]

    @torch.no_grad()
    def predict(
        self,
        images: Tensor,
        *,
        score_threshold: float = 0.001,
        nms_iou: float = 0.5,
        max_detections: int = 100,
    ) -> list[Detections]:
        """Detect objects in a batch of equally large pictures.

        Batch norms work as the mode of the module says: call ``eval()`` first.

        Args:
            images: ``(B, 3, H, W)`` uint8.
            score_threshold: lowest score that is kept.
            nms_iou: boxes of a class that overlap more than this are one.
            max_detections: detections kept of a picture.
        """
        class_logits, box_codes = self(self.normalize(images))
        return postprocess(
            class_logits,
            box_codes,
            self.anchors(images),
            score_threshold=score_threshold,
            nms_iou=nms_iou,
            max_detections=max_detections,
        )

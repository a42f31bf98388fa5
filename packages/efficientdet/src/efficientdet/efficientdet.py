"""EfficientDet: any feature pyramid, BiFPN, and two heads (arXiv:1911.09070, Sec. 4).

Shapes: B = batch, A = anchors a place (9), K = classes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from backbone import EfficientNetTrunk, Preprocessing, Pyramid
from backbone.grad_checkpointing import checkpoint_stages, set_grad_checkpointing
from compound.errors import UserError, closest
from compound.export.engines import Run, Runtime, optimized
from compound.hub.mixin import HubMixin
from efficientdet.anchors import ANCHORS_PER_PLACE, known_anchors
from efficientdet.bifpn import BiFPN
from efficientdet.folding import FoldedHead, fold_bifpn
from efficientdet.heads import PRIOR_BIAS, Head
from efficientdet.postprocess import Detections, Method, Suppression, postprocess
from efficientdet.specs import DetSpec, both_sides
from efficientdet.tta import detect_augmented

if TYPE_CHECKING:
    from compound.data.sources import Picture
    from compound.weights import LoadReport


class EfficientDet(HubMixin, nn.Module):
    """The detector.

    Args:
        spec: the variant's row.
        num_classes: K.
        pyramid: the backbone, which `create_model` builds from the spec.

    Attributes:
        image_size: height and width it is meant for; any works.
        preprocessing: the backbone's: how pictures become its input.
        class_names: names of the classes in the order of the labels, where they are known.
        load_report: what became of the weights it was built with, None if they are random.
        run: what computes the outputs in place of the layers, see `optimize`.
        runtime: the name of what does.
    """

    task = "det"
    # What was settled when a program was exported; here nothing is.
    nms: dict[str, Any] | None = None
    mean: Tensor
    std: Tensor

    def __init__(self, spec: DetSpec, *, num_classes: int, pyramid: Pyramid) -> None:
        super().__init__()
        self.spec = spec
        self.num_classes = num_classes
        self.image_size = both_sides(spec.image_size)
        self.class_names: tuple[str, ...] | None = None
        self.load_report: LoadReport | None = None
        self.pyramid = pyramid
        self.preprocessing: Preprocessing = getattr(pyramid, "preprocessing", Preprocessing())
        self.bifpn = BiFPN(
            {level: c for level, c in pyramid.channels.items() if level >= spec.min_level},
            spec.fpn_channels,
            cells=spec.fpn_cells,
            max_level=spec.max_level,
            fusion=spec.fusion,
            act=spec.act,
        )
        self.class_head = self._head(num_classes, PRIOR_BIAS)
        self.box_head = self._head(4, 0.0)
        for name, values in (("mean", self.preprocessing.mean), ("std", self.preprocessing.std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
        self.run: Run | None = None
        self.runtime: str | None = None

    def _head(self, outputs: int, bias: float) -> Head:
        return Head(
            self.spec.fpn_channels,
            ANCHORS_PER_PLACE * outputs,
            repeats=self.spec.head_repeats,
            levels=self.spec.levels,
            bias=bias,
            act=self.spec.act,
        )

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return class logits and box codes, one tensor a level.

        Args:
            images: ``(B, 3, H, W)`` normalised (see `normalize`); any H and W.

        Returns:
            Logits ``(B, A * K, h, w)`` and codes ``(B, A * 4, h, w)`` as ``(ty, tx, th, tw)``.
        """
        if self.run is not None:
            outputs = list(self.run(images))
            return outputs[: len(outputs) // 2], outputs[len(outputs) // 2 :]
        features = self.bifpn(self.pyramid(images))
        return self.class_head(features), self.box_head(features)

    def optimize(
        self,
        image_size: int | Sequence[int] | None = None,
        *,
        batch_size: int = 1,
        runtime: Runtime = "auto",
    ) -> "EfficientDet":
        """Return a copy that detects sooner and learns no more; its outputs differ by rounding.

        Batch norms are folded, fusion weights fixed, tensors laid out channels-last, and what is
        left is run by what is fastest. The extra ``runtimes`` adds engines to choose from.

        Args:
            image_size: side, or height and width, of the pictures to come; None for `image_size`.
                Others are detected in as well, only not as fast.
            batch_size: how many of them at a time.
            runtime: see `compound.export.engines.accelerated`.

        Raises:
            UserError: there is no such engine here, or this is such a copy already.
        """
        size = self.image_size if image_size is None else both_sides(image_size)
        return optimized(self, (batch_size, 3, *size), runtime)

    def fold(self) -> None:
        """Give BiFPN and heads their form for inference; part of `compound.export.folding.fold`."""
        fold_bifpn(self.bifpn)
        for name in ("class_head", "box_head"):
            setattr(self, name, FoldedHead(getattr(self, name)))

    def recompute(self, parts: Sequence[str]) -> None:
        """Let training compute parts again in the backward pass (gradient checkpointing).

        Args:
            parts: of ``backbone`` (every block), ``bifpn`` (every cell), ``heads`` (their hidden
                layers); as officially with ``grad_checkpoint``.

        Raises:
            UserError: there is no such part, or the backbone is no EfficientNet.
        """
        for part in parts:
            closest(part, ("backbone", "bifpn", "heads"), what="part to recompute")
        for cell in self.bifpn.cells:
            set_grad_checkpointing(cell, "bifpn" in parts)
        for head in (self.class_head, self.box_head):
            set_grad_checkpointing(head, "heads" in parts, method="hidden")
        if isinstance(self.pyramid, EfficientNetTrunk):
            every = range(len(self.pyramid.stages))
            checkpoint_stages(self.pyramid, every if "backbone" in parts else ())
        elif "backbone" in parts:
            raise UserError("recompute=[backbone]: only EfficientNets can; leave it out")

    @property
    def not_rebuilt(self) -> str:
        """Return why no file can rebuild the detector; nothing if one can."""
        if not str(self.spec.backbone).startswith("own/"):
            return ""
        return f"backbone={self.spec.backbone} is a pyramid of your own, which no file can rebuild"

    @property
    def input(self) -> tuple[tuple[int, int], Mapping[str, Any]]:
        """Return height and width of the input, and the fields of `Preprocessing`.

        Images are scaled until they fit and filled with the RGB ``pad_colour`` at the bottom and
        right.
        """
        own = {"interpolation": "bilinear", "crop": None, "pad_colour": self.pad_colour}
        return self.image_size, asdict(self.preprocessing) | own

    def normalize(self, images: Tensor) -> Tensor:
        """Turn uint8 pictures ``(B, 3, H, W)`` into what `forward` takes."""
        return (images - self.mean) / self.std

    def anchors(self, images: Tensor) -> Tensor:
        """Return the anchors for pictures of this size, ``(places * A, 4)`` xyxy; cached."""
        return known_anchors(self.spec, (images.shape[-2], images.shape[-1]), images.device)

    @property
    def pad_colour(self) -> tuple[int, int, int]:
        """Return the RGB that becomes zero, of which there is no picture."""
        red, green, blue = (round(value) for value in self.preprocessing.mean)
        return red, green, blue

    @torch.no_grad()
    def predict(
        self,
        images: "Tensor | Picture | Iterable[Picture]",
        *,
        batch_size: int = 1,
        method: Method | Suppression = "per_class",
        score_threshold: float = 0.001,
        nms_iou: float = 0.5,
        sigma: float = 0.5,
        max_candidates: int = 5000,
        max_detections: int = 100,
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
        fusion_iou: float = 0.55,
    ) -> list[Detections]:
        """Detect objects in pictures, or in a batch of equally large ones as the network sees them.

        Of pictures each is seen at `image_size`, and its boxes are in its own pixels. Of however
        many just a few are in memory: they are decoded while the network looks at those before.
        Batch norms work as the mode of the module says: call ``eval()`` first. With ``flip`` or
        several scales each picture is seen several times and the boxes are fused.

        Args:
            images: ``(B, 3, H, W)`` uint8; or a picture or several: files, ``(H, W, 3)`` uint8
                RGB, Pillow's.
            batch_size: how many of these the network sees at a time.
            method: see `postprocess`, as all up to ``max_detections``.
            score_threshold: lowest score that is kept.
            nms_iou: boxes that overlap more than this are one; for hard NMS.
            sigma: how gently overlap is punished; for soft NMS.
            max_candidates: pairs of anchor and class that go into NMS.
            max_detections: detections kept of a picture.
            flip: add the mirrored picture.
            scales: factors of the pictures' sides, see `detect_augmented`.
            fusion_iou: boxes of several views are one from this overlap on.
        """
        ways: dict[str, Any] = {
            "method": method,
            "score_threshold": score_threshold,
            "nms_iou": nms_iou,
            "sigma": sigma,
            "max_candidates": max_candidates,
            "max_detections": max_detections,
        }
        if not isinstance(images, Tensor):
            # Of those who have tensors nobody needs what reads files.
            from efficientdet.predictor import detect

            looks = {"flip": flip, "scales": scales, "fusion_iou": fusion_iou}
            return list(detect(self, images, batch_size=batch_size, **ways, **looks))
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images: expected (B, 3, H, W), got {tuple(images.shape)}")

        def view(pictures: Tensor) -> list[Detections]:
            class_logits, box_codes = self(self.normalize(pictures))
            return postprocess(class_logits, box_codes, self.anchors(pictures), **ways)

        if not flip and tuple(scales) == (1.0,):
            return view(images)
        return detect_augmented(
            view,
            images,
            flip=flip,
            scales=scales,
            score_threshold=score_threshold,
            max_detections=max_detections,
            fusion_iou=fusion_iou,
        )

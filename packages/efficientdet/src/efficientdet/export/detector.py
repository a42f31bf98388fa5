"""An exported detector used like the network it was made from."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compound.data.sources import Picture
from compound.errors import UserError
from compound.export.program import check_size
from compound.export.runtime import Opened, open_program
from compound.task import check_task
from efficientdet.anchors import known_anchors
from efficientdet.export import suppress as _  # noqa: F401  PyTorch finds its operator
from efficientdet.postprocess import Detections, postprocess
from efficientdet.predictor import detect
from efficientdet.specs import DetSpec, both_sides


def load_exported(
    path: str | Path, *, image_size: int | Sequence[int] | None = None
) -> "ExportedDetector":
    """Open an exported detector, ``.onnx``, ``.xml`` or ``.pt2``.

    Args:
        path: the file.
        image_size: see `ExportedDetector`.

    Raises:
        UserError: see `open_program`; or it is of another task, or takes no such size.
    """
    opened = open_program(path)
    check_task(opened.metadata, ExportedDetector.task, path)
    return ExportedDetector(opened, image_size=image_size)


class ExportedDetector:
    """A program of `detector_program`, with what `EfficientDet` has for looking at pictures.

    Args:
        opened: see `open_program`.
        image_size: side, or height and width, that pictures are fitted to; None for the size that
            it was exported at, the only one unless it was for any size.

    Attributes:
        spec: the detector's.
        class_names: names of the classes, where they are known.
        nms: what was settled when it was exported, None if post-processing is done here.
        mean: zeros: preprocessing is part of the program.

    Raises:
        UserError: the program does not take this size.
    """

    task = "det"

    def __init__(self, opened: Opened, *, image_size: int | Sequence[int] | None = None) -> None:
        self.run, told = opened
        self.spec = DetSpec.from_dict(told["model"])
        self.image_size = both_sides(image_size or self.spec.image_size)
        check_size(told["sizes"], self.image_size)
        names = told["class_names"]
        self.class_names: tuple[str, ...] | None = None if names is None else tuple(names)
        self.num_classes: int = told["num_classes"]
        self.nms: dict[str, Any] | None = told["nms"]
        self.pad_colour = tuple(told["preprocessing"]["pad_colour"])
        self.mean = torch.zeros(3, 1, 1)

    def predict(
        self, images: Tensor | Picture | Iterable[Picture], *, batch_size: int = 1, **settings: Any
    ) -> list[Detections]:
        """Detect objects, as `EfficientDet.predict` does.

        Args:
            images: ``(B, 3, H, W)`` uint8; or a picture or several.
            batch_size: pictures at a time, of pictures that are not a batch.
            settings: of `postprocess`. Where NMS is inside the program, they are what was settled,
                but for a higher ``score_threshold`` and a smaller ``max_detections``.

        Raises:
            UserError: a setting was settled otherwise when it was exported.
        """
        if self.nms is not None:
            check_settled(settings, self.nms)
        if not isinstance(images, Tensor):
            return list(detect(self, images, batch_size=batch_size, **settings))
        outputs = self.run(images)
        if self.nms is not None:
            least, most = settings.get("score_threshold", 0.0), settings.get("max_detections")
            return _best(outputs, least, most)
        half = len(outputs) // 2
        size = (images.shape[-2], images.shape[-1])
        anchors = known_anchors(self.spec, size, images.device)
        return postprocess(outputs[:half], outputs[half:], anchors, **settings)


def check_settled(settings: Mapping[str, Any], settled: Mapping[str, Any]) -> None:
    """Refuse settings of a program that has NMS inside: only few can be met afterwards.

    Args:
        settings: of `postprocess`.
        settled: `ExportedDetector.nms`.

    Raises:
        UserError: another value than the settled one, but for a higher ``score_threshold`` and
            a smaller ``max_detections``; or a setting of soft suppression.
    """
    for key, value in settings.items():
        if key not in settled:
            raise UserError(f"{key}={value}: a program with NMS inside has {', '.join(settled)}")
        own = settled[key]
        higher = key == "score_threshold" and value > own
        fewer = key == "max_detections" and 0 < value < own
        if value != own and not higher and not fewer:
            raise UserError(
                f"{key}={value}: this file has NMS inside, settled with {key}={own}; give that, "
                "or export it with nms=false"
            )


def _best(outputs: Sequence[Tensor], least: float, most: int | None) -> list[Detections]:
    """Return the detections of a program that has NMS inside, the best first."""
    found = []
    for boxes, scores, labels, count in zip(*outputs, strict=True):
        rows = slice(int((scores[: int(count)][:most] >= least).sum()))
        found.append(Detections(boxes[rows], scores[rows], labels[rows]))
    return found

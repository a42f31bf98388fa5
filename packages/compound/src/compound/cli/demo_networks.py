"""The networks of `demo`: what they make of a picture, and what of it thresholds leave.

Shapes: A = anchors a place, K = classes, P = places that are kept of a level.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image, ImageOps
from torch import Tensor

from backbone import EfficientNet
from backbone.classification.predictor import classify
from compound.cli.networks import class_names_of, detects, network_of
from compound.data.sources import pixels_of
from compound.visualize import draw_guesses
from efficientdet import Detections, EfficientDet
from efficientdet.anchors import ANCHORS_PER_PLACE
from efficientdet.postprocess import postprocess
from efficientdet.predictor import detect, in_source
from efficientdet.visualize import draw

# The lowest score that the page asks for.
LEAST_SCORE = 0.05
# Pairs of anchor and class that go into NMS, as `EfficientDet.predict` has it by default.
CANDIDATES = 5000
# Longer side of a drawn picture, in pixels: names are readable on small ones, and a camera's own
# size would only slow the page down.
SHOWN = 1280
# Pictures that are kept for the next move of a slider.
KEPT = 32


class Sight(NamedTuple):
    """What a network made of a picture.

    Attributes:
        shown: ``(H, W, 3)`` uint8 RGB, as large as it is drawn upon.
        size: height and width of the picture.
        outputs: what thresholds need.
        seconds: that the network took.
    """

    shown: np.ndarray
    size: tuple[int, int]
    outputs: Any
    seconds: float


class Answer(NamedTuple):
    """What is shown of a picture: drawn, and a row for each line of the table."""

    drawn: np.ndarray
    rows: list[list[Any]]


class Detector:
    """Boxes: the same as those of `EfficientDet.predict` with the same settings.

    Args:
        model: in evaluation mode.
        class_names: in the order of the labels.
        least_score: lowest threshold that will be asked for.
        max_detections: of a picture.
    """

    detects = True
    columns = ("class", "score", "left", "top", "right", "bottom")

    def __init__(
        self,
        model: EfficientDet,
        class_names: Sequence[str],
        *,
        least_score: float,
        max_detections: int,
    ) -> None:
        self.model = model
        self.class_names = class_names
        self.about = _about(model, len(class_names), model.image_size)
        self._least = least_score
        self._count = max_detections

    def look(self, pixels: np.ndarray) -> Sight:
        """Run the network; keep of its outputs what can become a detection."""
        with _observed(self.model) as seen:
            next(detect(self.model, pixels, score_threshold=1.0))
        logits, codes = seen["outputs"]
        outputs = _promising(logits, codes, self.model.anchors(seen["images"]), self._least)
        return Sight(_shown(pixels), (pixels.shape[0], pixels.shape[1]), outputs, seen["seconds"])

    def found(
        self, sight: Sight, score_threshold: float, nms_iou: float, method: str
    ) -> Detections:
        """Return the boxes that stay, in the picture's own pixels."""
        (found,) = postprocess(
            *sight.outputs,
            method=method,  # pyright: ignore[reportArgumentType]
            score_threshold=score_threshold,
            nms_iou=nms_iou,
            max_candidates=CANDIDATES,
            max_detections=self._count,
        )
        found = in_source(found, sight.size, self.model.image_size)
        return Detections(*(column.cpu() for column in found))

    def answer(self, sight: Sight, score_threshold: float, nms_iou: float, method: str) -> Answer:
        """Return the boxes that stay, drawn and in rows."""
        found = self.found(sight, score_threshold, nms_iou, method)
        rows = [
            [self.class_names[label], round(score, 3), *map(round, box)]
            for box, score, label in zip(*(column.tolist() for column in found), strict=True)
        ]
        factors = torch.tensor(sight.shown.shape[1::-1]) / torch.tensor(sight.size[::-1])
        scaled = found._replace(boxes_xyxy=found.boxes_xyxy * factors.repeat(2))
        return Answer(draw(sight.shown, scaled, self.class_names), rows)


class Classifier:
    """The likeliest classes, which no threshold touches.

    Args:
        model: in evaluation mode.
        class_names: in the order of the labels.
        top: how many classes.
    """

    detects = False
    columns = ("class", "probability")

    def __init__(self, model: EfficientNet, class_names: Sequence[str], *, top: int) -> None:
        self.model = model
        self.class_names = class_names
        side = model.spec.image_size
        self.about = _about(model, len(class_names), (side, side))
        self._top = top

    def look(self, pixels: np.ndarray) -> Sight:
        """Run the network; keep the likeliest classes."""
        with _observed(self.model) as seen:
            guesses = next(classify(self.model, pixels, top=self._top))
        return Sight(_shown(pixels), (pixels.shape[0], pixels.shape[1]), guesses, seen["seconds"])

    def answer(self, sight: Sight, score_threshold: float, nms_iou: float, method: str) -> Answer:
        """Return the classes, the likeliest first."""
        scores, labels = (column.tolist() for column in sight.outputs)
        rows = [[self.class_names[i], round(s, 3)] for s, i in zip(scores, labels, strict=True)]
        return Answer(draw_guesses(sight.shown, scores, labels, self.class_names), rows)


Network = Detector | Classifier


class Networks:
    """The networks to choose from: each is loaded when it is first asked for, and stays.

    Args:
        config: of `demo`.
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, config: DictConfig, device: str) -> None:
        self.config = config
        self.device = device
        self._loaded: dict[str, Network] = {}
        # Pages name uploaded files by their content, so the same picture has the same path.
        self.look = lru_cache(KEPT)(self._look)

    def __getitem__(self, weights: str) -> Network:
        """Return the network of some weights.

        Raises:
            UserError: see `network_of`.
        """
        if weights not in self._loaded:
            self._loaded[weights] = self._load(weights)
        return self._loaded[weights]

    def _load(self, weights: str) -> Network:
        config = deepcopy(self.config)
        config.weights = weights
        model = network_of(config).eval().to(self.device)
        names = class_names_of(model)
        if detects(model):
            least = min(LEAST_SCORE, config.score_threshold)
            network = Detector(
                model, names, least_score=least, max_detections=config.max_detections
            )
        else:
            network = Classifier(model, names, top=config.top)
        network.look(np.zeros((64, 64, 3), np.uint8))  # the first time takes longer
        return network

    def _look(self, weights: str, path: Path) -> Sight:
        """Return what a network makes of a picture file.

        Raises:
            UnreadableError: it cannot be decoded to its end.
        """
        return self[weights].look(pixels_of(path))


@contextmanager
def _observed(model: torch.nn.Module) -> Iterator[dict[str, Any]]:
    """Note the network's ``images``, ``outputs`` and ``seconds`` while others use it."""
    seen: dict[str, Any] = {}

    def begin(_: torch.nn.Module, arguments: tuple[Tensor, ...]) -> None:
        seen.update(images=arguments[0], begin=_now(arguments[0]))

    def end(_: torch.nn.Module, arguments: tuple[Tensor, ...], outputs: Any) -> None:
        seen.update(outputs=outputs, seconds=_now(arguments[0]) - seen["begin"])

    hooks = model.register_forward_pre_hook(begin), model.register_forward_hook(end)
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _now(tensor: Tensor) -> float:
    if tensor.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter()


def _promising(
    class_logits: Sequence[Tensor], box_codes: Sequence[Tensor], anchors: Tensor, least: float
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Return a picture's outputs and anchors without the places that nothing will come of.

    What `postprocess` returns does not change for any threshold from ``least`` on: its candidates
    belong to the anchors with the best peaks, and it meets them in the same order.

    Returns:
        Logits ``(1, A * K, 1, P)`` and codes ``(1, A * 4, 1, P)`` of every level, anchors.
    """
    peaks = [level.unflatten(1, (ANCHORS_PER_PLACE, -1)).amax(2) for level in class_logits]
    every = torch.cat([peak.flatten() for peak in peaks])
    lowest = float(every.topk(min(CANDIDATES, len(every))).values[-1])
    if least > 0:
        lowest = max(lowest, math.log(least / (1 - least)) - 1e-3)  # no rounding matters
    logits, codes, rows, start = [], [], [], 0
    for level, code, peak in zip(class_logits, box_codes, peaks, strict=True):
        kept = (peak[0].amax(0) >= lowest).flatten()
        kept[0] = True  # levels without any place are not foreseen
        logits.append(level.flatten(2)[:, :, None, kept])
        codes.append(code.flatten(2)[:, :, None, kept])
        own = anchors[start : start + peak.numel()].view(-1, ANCHORS_PER_PLACE, 4)
        rows.append(own[kept].flatten(0, 1))
        start += peak.numel()
    return logits, codes, torch.cat(rows)


def _shown(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(ImageOps.contain(Image.fromarray(pixels), (SHOWN, SHOWN)))


def _about(model: Any, num_classes: int, size: tuple[int, int]) -> str:
    """Return a line about a network."""
    return f"{model.spec.name}, {num_classes} classes, {size[0]} x {size[1]} pixels"

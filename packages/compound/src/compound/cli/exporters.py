"""What `export` does with a network, as a detector or as a classifier, and what it compares.

A finding is what the network says of one picture.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from omegaconf import DictConfig, OmegaConf

from compound.cli.networks import class_names_of, detects
from compound.errors import UserError

if TYPE_CHECKING:
    from compound.export.program import Program


class Exporter(Protocol):
    """A network, and pictures to look at."""

    model: Any
    data: Any
    metric: str
    image_size: tuple[int, int]

    def program(self, *, nms: bool, about: dict[str, Any]) -> "Program":
        """Trace the network; ``about`` are its metrics and licence."""
        ...

    def open(self, path: Path) -> Any:
        """Return what a file holds, to be used like the network."""
        ...

    def findings(self, network: Any) -> list[Any]:
        """Return what a network finds in the pictures."""
        ...

    def differences(self, wanted: list[Any], found: list[Any]) -> dict[str, float]:
        """Return the largest ones, by what differs."""
        ...

    def score(self, found: list[Any]) -> float | None:
        """Return how right it is, None where the pictures have classes that it does not know."""
        ...


class DetectorExporter:
    """Boxes, scored by COCO's mAP."""

    metric = "mAP"

    def __init__(self, model: Any, config: DictConfig) -> None:
        from hydra.utils import instantiate

        from efficientdet.specs import both_sides

        if config.image_size is not None:
            model.image_size = both_sides(_plain(config.image_size))
        self.model, self.config = model, config
        self.data = instantiate(config.data, image_size=list(model.image_size), **_ONE_BY_ONE)
        self.data.pad_colour = model.pad_colour
        self.image_size = model.image_size
        keys = ("method", "score_threshold", "nms_iou", "max_candidates", "max_detections")
        self.settings = {key: config[key] for key in keys}

    def program(self, *, nms: bool, about: dict[str, Any]) -> "Program":
        """Trace the detector."""
        from efficientdet.export.detector_program import detector_program

        return detector_program(
            self.model,
            batch_size=self.config.batch_size,
            any_size=self.config.any_size,
            nms=self.settings if nms else None,
            **about,
        )

    def open(self, path: Path) -> Any:
        """Return the exported detector."""
        from efficientdet import load_exported

        return load_exported(path)

    def findings(self, network: Any) -> list[Any]:
        """Return the detections in each picture."""
        from efficientdet.module import to_source

        settled = getattr(network, "nms", None) is not None
        settings = {} if settled else self.settings
        found = []
        for batch in _batches(self.data, self.config.split, compared(self.data, self.config)):
            found += to_source(network.predict(batch.images, **settings), batch)
        return found

    def differences(self, wanted: list[Any], found: list[Any]) -> dict[str, float]:
        """Return the largest differences of scores and boxes."""
        from efficientdet.export.differences import compare

        return compare(wanted, found)._asdict()

    def score(self, found: list[Any]) -> float | None:
        """Return COCO's mAP."""
        from efficientdet.evaluation.evaluator import CocoEvaluator

        index = self.data.splits[self.config.split]
        theirs = _labels(self.model, index.class_names)
        if theirs is None:
            return None
        evaluator = CocoEvaluator(index)
        image_ids = index.image_ids[compared(self.data, self.config)].tolist()
        for image_id, of_picture in zip(image_ids, found, strict=True):
            labels = theirs[of_picture.labels.numpy()]
            known = labels >= 0
            columns = (of_picture.boxes_xyxy[known], of_picture.scores[known])
            relabelled = of_picture._make((*columns, of_picture.labels.new_tensor(labels[known])))
            evaluator.add(image_id, relabelled)
        return evaluator.evaluate()[0].metrics["mAP"]


class ClassifierExporter:
    """Classes, scored by the share of right ones."""

    metric = "top1"

    def __init__(self, model: Any, config: DictConfig) -> None:
        from dataclasses import replace

        from hydra.utils import instantiate

        if config.nms:
            raise UserError("nms=true is for detectors; these weights are a classifier's")
        size = model.spec.image_size if config.image_size is None else config.image_size
        if not isinstance(size, int):
            raise UserError(f"image_size={size}: expected the side of a classifier's pictures")
        model.spec = replace(model.spec, image_size=size)
        self.model, self.config = model, config
        channels = {"in_channels": len(model.mean)}
        self.data = instantiate(config.data, image_size=size, **channels, **_ONE_BY_ONE)
        self.data.preprocessing = model.spec.preprocessing
        self.image_size = (size, size)

    def program(self, *, nms: bool, about: dict[str, Any]) -> "Program":
        """Trace the classifier."""
        from backbone.classification.export import classifier_program

        return classifier_program(
            self.model,
            batch_size=self.config.batch_size,
            any_size=self.config.any_size,
            **about,
        )

    def open(self, path: Path) -> Any:
        """Return the exported classifier."""
        from backbone import load_exported

        return load_exported(path)

    def findings(self, network: Any) -> list[Any]:
        """Return the probability of every class for each picture."""
        found = []
        for batch in _batches(self.data, self.config.split, compared(self.data, self.config)):
            found += network.predict(batch.images, top=self.model.num_classes)
        return found

    def differences(self, wanted: list[Any], found: list[Any]) -> dict[str, float]:
        """Return the largest difference of probabilities, and how many decisions changed."""
        from backbone.classification.differences import compare

        return compare(wanted, found)._asdict()

    def score(self, found: list[Any]) -> float | None:
        """Return the share of pictures whose likeliest class is right."""
        index = self.data.splits[self.config.split]
        theirs = _labels(self.model, index.class_names)
        if theirs is None:
            return None
        guessed = theirs[[int(guesses.labels[0]) for guesses in found]]
        return float((guessed == index.labels[compared(self.data, self.config)]).mean())


# Pictures of a loader without processes of its own: they are few.
_ONE_BY_ONE: dict[str, Any] = {"batch_size": 1, "num_workers": 0}


def exporter_of(model: Any, config: DictConfig) -> Exporter:
    """Return what exports a network and looks at the configuration's pictures."""
    return (DetectorExporter if detects(model) else ClassifierExporter)(model, config)


def calibrated(exporter: Exporter, config: DictConfig) -> Iterator[np.ndarray]:
    """Yield the pictures on which the maps are measured, ``(1, C, H, W)`` uint8."""
    order = _order(exporter.data, config.calibration_split)
    rows = np.sort(order[: config.calibration])
    for batch in _batches(exporter.data, config.calibration_split, rows):
        yield batch.images.contiguous().numpy()


def compared(data: Any, config: DictConfig) -> np.ndarray:
    """Return the positions of the pictures that are compared on, increasing.

    They are drawn from the whole split, as folders are in order of their classes; those on which
    maps are measured are others.
    """
    first = config.calibration if config.calibration_split == config.split else 0
    return np.sort(_order(data, config.split)[first : first + config.pictures])


def _order(data: Any, split: str) -> np.ndarray:
    return np.random.default_rng(0).permutation(data.num_pictures(split))


def _batches(data: Any, split: str, rows: np.ndarray) -> Iterator[Any]:
    """Yield a split's pictures at these positions, as in evaluation.

    Raises:
        UserError: one cannot be read.
    """
    from torch.utils.data import DataLoader

    whole = data.whole(split)
    draws = list(whole.sampler)
    chosen: Any = [draws[row] for row in rows.tolist()]
    for batch in DataLoader(whole.dataset, 1, sampler=chosen, collate_fn=whole.collate_fn):
        if batch.unreadable:
            raise UserError(f"data: {batch.unreadable[0]}; mend it or take it out")
        yield batch


def _labels(model: Any, wanted: Sequence[str]) -> np.ndarray | None:
    """Return each class's label among ``wanted``, -1 without one; None if some are not known.

    Classes without names, as of public weights, are those of a data set that has as many.
    """
    names = class_names_of(model)
    if model.class_names is None and len(names) == len(wanted):
        return np.arange(len(names))
    if not set(wanted) <= set(names):
        return None
    ids = {name: label for label, name in enumerate(wanted)}
    return np.array([ids.get(name, -1) for name in names])


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value

"""Measures how well anchors fit the boxes of a data set, and looks for better ones."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from compound.doctor.diagnosis import Options
from compound.doctor.findings import Finding
from compound.report.page import Section
from efficientdet.data.dataset import Crowd
from efficientdet.data.index import AnnotationIndex
from efficientdet.doctor.boxes import as_seen
from efficientdet.doctor.coverage import AnchorShapes, Coverage, best_iou, by_size, small_finding
from efficientdet.doctor.evolution import propose
from efficientdet.doctor.proposal import proposal_finding, to_dict, to_yaml
from efficientdet.doctor.sections import anchors_section
from efficientdet.specs import DetSpec


class AnchorFit(NamedTuple):
    """What was found; nothing where the training has no objects.

    Attributes:
        findings: small boxes, and better anchors if there are any.
        facts: both anchors and how they fit, as plain values.
        sections: of the page.
        files: ``anchors.yaml``.
    """

    findings: list[Finding]
    facts: dict[str, Any]
    sections: list[Section]
    files: dict[str, str]


def fit_anchors(
    splits: Mapping[str, AnnotationIndex],
    spec: DetSpec,
    size: tuple[int, int],
    options: Options,
    *,
    crowd: Crowd = "skip",
) -> AnchorFit:
    """Measure a detector's anchors, and propose others.

    Args:
        splits: the data set; anchors are sought for the training's boxes, and tried on all.
        spec: the detector.
        size: height and width of its input.
        options: how long to search.
        crowd: whether crowd regions are objects.
    """
    chosen = {split: ~index.crowd | (crowd == "train") for split, index in splits.items()}
    splits = {split: index for split, index in splits.items() if chosen[split].any()}
    if "train" not in splits:
        return AnchorFit([], {}, [], {})
    boxes = {split: as_seen(index, size)[chosen[split]] for split, index in splits.items()}
    where: dict[str, Any] = {"size": size, "levels": spec.levels}
    search = {"generations": options.generations, "seed": options.seed}
    present, train = AnchorShapes.of(spec), boxes["train"]
    proposed = propose(train, present, **search, **where)

    def fit(split: str, shapes: AnchorShapes) -> dict[str, Coverage]:
        areas = splits[split].areas[chosen[split]]
        return by_size(best_iou(boxes[split], shapes, **where), areas)

    fits = {split: (fit(split, present), fit(split, proposed)) for split in splits}
    now, then = fits["train"]
    better = proposal_finding(now["all"], then["all"], proposed)
    worth, stride = better is not None, 2**spec.min_level
    return AnchorFit(
        small_finding("train", train, present, **where) + ([better] if better else []),
        {
            "anchors": {"present": to_dict(present), "proposed": to_dict(proposed)},
            "coverage": {split: _plain(*both) for split, both in fits.items()},
        },
        [anchors_section(train, fits, present, proposed, worth=worth, stride=stride)],
        {"anchors.yaml": to_yaml(proposed, size=size, now=now, then=then)},
    )


def _plain(before: Mapping[str, Coverage], after: Mapping[str, Coverage]) -> dict[str, Any]:
    return {
        name: {size: coverage._asdict() for size, coverage in fit.items()}
        for name, fit in (("present", before), ("proposed", after))
    }

"""Detectors by name, by spec, or from a file of their own."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import backbone as networks
from backbone import NetSpec, Pyramid
from backbone.pyramid import TIMM_PREFIX, TimmPyramid, find_backbone
from compound.errors import UserError, closest
from compound.weights import LoadReport, pretrained_file, read_file
from efficientdet.efficientdet import EfficientDet
from efficientdet.specs import EFFICIENTDET, DetSpec, both_sides
from efficientdet.weights import DetectorWeights, fill, read_weights

log = logging.getLogger(__name__)


def list_models() -> list[str]:
    """Return the names that `create_model` knows."""
    return list(EFFICIENTDET)


def create_model(
    name: str | DetSpec,
    *,
    num_classes: int = 90,
    image_size: int | Sequence[int] | None = None,
    backbone: str | NetSpec | Pyramid | None = None,
    weights: str | Path | None = None,
    backbone_weights: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    **changes: Any,
) -> EfficientDet:
    """Build an EfficientDet.

    With weights the detector takes over what belongs to them: anchors, padding, epsilon and
    preprocessing (``model.spec``). What was loaded, skipped and missing is logged, and what of
    this was guessed because the file does not say it.

    Args:
        name: one of `list_models`, or a spec.
        num_classes: number of classes; 90 for the published COCO heads.
        image_size: side of the pictures it is used at, or height and width; the published side by
            default.
        backbone: in place of the variant's own: the name of one of our networks, such as
            ``efficientnetv2_s``, a table, ``timm/<name>``, or any feature pyramid.
        weights: None for random ones; ``coco`` for Google's COCO weights of the variant,
            ``advprop`` for their AdvProp ones; ``hf-hub:user/name``; or the path of a file by this
            project or effdet, of an official TensorFlow checkpoint, or of a folder by
            `EfficientDet.save_pretrained`.
        backbone_weights: weights of the backbone alone, see `backbone.create_model`; of timm's
            networks only ``imagenet``.
        class_names: names of the classes in the order of the labels: where the weights know
            theirs, the class head's rows are taken by name.
        changes: fields of the spec to replace, such as ``fpn_channels=160``; None leaves one.

    Raises:
        UserError: the name is unknown, or the weights cannot be read or do not fit.
    """
    if num_classes < 1 or (class_names is not None and len(class_names) != num_classes):
        raise UserError(f"num_classes={num_classes}: expected 1 or more, and a name for each")
    if isinstance(name, str):
        name = EFFICIENTDET[closest(name, EFFICIENTDET, what="model")]
    for key in changes:
        closest(key, [field.name for field in fields(DetSpec)], what="field of a detector")
    if image_size is not None:
        changes["image_size"] = both_sides(image_size)
    given = {key: value for key, value in changes.items() if value is not None}
    if isinstance(backbone, str | NetSpec):
        given["backbone"] = backbone
        backbone = None
    if weights is not None and backbone_weights is not None:
        raise UserError("weights hold a backbone already; leave backbone_weights out")
    spec = replace(name, **given)
    if backbone is None:
        backbone, spec = _build_backbone(spec, backbone_weights)
    else:
        spec = replace(spec, backbone=f"own/{type(backbone).__name__}")
    found = None if weights is None else read_weights(weights, spec)
    if found is not None:
        spec, conventions = _adopted(spec, found.spec, given), spec.backbone
        if spec.backbone != conventions:
            backbone, spec = _build_backbone(spec, None)
    model = EfficientDet(spec, num_classes=num_classes, pyramid=backbone)
    model.class_names = None if class_names is None else tuple(class_names)
    if found is not None:
        model.load_report = fill(model, found, class_names=class_names)
        _tell(found, spec, model.load_report)
        if model.class_names is None and len(found.class_names or ()) == num_classes:
            model.class_names = found.class_names
    return model


def load_model(path: str | Path) -> EfficientDet:
    """Rebuild a detector from what this project wrote alone.

    Args:
        path: of a file, such as a run's ``best.ckpt``, or of a folder by
            `EfficientDet.save_pretrained`; or ``hf-hub:user/name``.

    Raises:
        UserError: the file cannot be read, or does not say what detector it holds.
    """
    file = pretrained_file(path) or path
    metadata = read_file(file).metadata
    spec, names = metadata.get("model"), metadata.get("class_names")
    num_classes = len(names) if names else metadata.get("num_classes")
    if spec is None or "fpn_cells" not in spec or num_classes is None:
        raise UserError(
            f"{path} does not say what detector it holds; build it by its name with "
            "create_model(..., weights=...)"
        )
    return create_model(
        DetSpec.from_dict(spec), num_classes=num_classes, weights=file, class_names=names
    )


def _adopted(spec: DetSpec, theirs: DetSpec, given: Mapping[str, Any]) -> DetSpec:
    """Return a spec with what belongs to weights, but for what was asked for."""
    return replace(
        spec,
        backbone=theirs.backbone,
        aspects=given.get("aspects", theirs.aspects),
        anchor_scale=given.get("anchor_scale", theirs.anchor_scale),
        octaves=given.get("octaves", theirs.octaves),
    )


def _tell(found: DetectorWeights, spec: DetSpec, report: LoadReport) -> None:
    """Log what was loaded, and what about it may surprise."""
    log.log(logging.INFO if report.complete else logging.WARNING, "%s", report)
    sizes = [both_sides(s.image_size) for s in (found.spec, spec)]
    if found.guessed:
        log.info(
            "weights %s do not say their anchors: taken as %s; model.aspects= changes it",
            found.source,
            spec.aspects,
        )
    elif sizes[0] != sizes[1]:
        log.warning(
            "weights %s were trained at %s pixels and are used at %s; model.image_size= changes it",
            found.source,
            *(f"{height} x {width}" for height, width in sizes),
        )


def _build_backbone(spec: DetSpec, weights: str | Path | None) -> tuple[Pyramid, DetSpec]:
    """Return the backbone that a spec names, and the spec with the conventions of its weights."""
    net = find_backbone(spec.backbone) if isinstance(spec.backbone, str) else spec.backbone
    if isinstance(net, str):
        if weights not in (None, "imagenet"):
            raise UserError(
                f"backbone_weights={weights}: of timm's networks only imagenet can be had"
            )
        name = net.removeprefix(TIMM_PREFIX)
        return TimmPyramid(name, pretrained=weights is not None), spec
    if not 0 < spec.backbone_survival <= 1:
        raise UserError(
            f"model.backbone_survival={spec.backbone_survival}: expected a probability in (0, 1]"
        )
    try:
        classifier = networks.create_model(net, weights=weights, survival=spec.backbone_survival)
    except UserError as error:
        told = str(error).replace("weights=", "backbone_weights=")
        raise UserError(told) from error
    return classifier.trunk, replace(spec, backbone=classifier.spec)

"""Detectors by name, by spec, or from a file of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import backbone as networks
from backbone import NetSpec, Pyramid
from backbone.pyramid import TIMM_PREFIX, TimmPyramid, find_backbone
from compound.errors import UserError, closest
from efficientdet.efficientdet import EfficientDet
from efficientdet.specs import EFFICIENTDET, DetSpec, both_sides

# What of a detector belongs to its weights, besides its backbone.
_ANCHORS = ("aspects", "anchor_scale", "octaves")


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
    if weights is not None and backbone_weights is not None:
        raise UserError("weights hold a backbone already; leave backbone_weights out")
    spec = resolve_spec(name, image_size=image_size, backbone=backbone, **changes)
    found = None
    if weights is not None:
        from efficientdet.weights import read_weights  # a random detector needs torch alone

        found = read_weights(weights, spec)
        spec = _adopted(spec, found.spec, changes)
    if backbone is None or isinstance(backbone, str | NetSpec):
        backbone, spec = _build_backbone(spec, backbone_weights)
    model = EfficientDet(spec, num_classes=num_classes, pyramid=backbone)
    model.class_names = None if class_names is None else tuple(class_names)
    if found is not None:
        from efficientdet.weights import fill

        fill(model, found)
    return model


def resolve_spec(
    name: str | DetSpec,
    *,
    image_size: int | Sequence[int] | None = None,
    backbone: str | NetSpec | Pyramid | None = None,
    **changes: Any,
) -> DetSpec:
    """Return the spec of the detector that `create_model` builds before it reads any weights.

    Its ``backbone`` is a network's table, ``timm/<name>``, or ``own/<type>`` for a pyramid.

    Args:
        name: see `create_model`, as all others.
        image_size: side, or height and width, in pixels.
        backbone: in place of the variant's own.
        changes: fields of the spec to replace; None leaves one.

    Raises:
        UserError: a name, a field or a value is unknown or invalid.
    """
    if isinstance(name, str):
        name = EFFICIENTDET[closest(name, EFFICIENTDET, what="model")]
    for key in changes:
        closest(key, [field.name for field in fields(DetSpec)], what="field of a detector")
    given = {key: value for key, value in changes.items() if value is not None}
    if image_size is not None:
        given["image_size"] = both_sides(image_size)
    if isinstance(backbone, str | NetSpec):
        given["backbone"] = backbone
    spec = replace(name, **given)
    if backbone is not None and not isinstance(backbone, str | NetSpec):
        return replace(spec, backbone=f"own/{type(backbone).__name__}")
    net = find_backbone(spec.backbone) if isinstance(spec.backbone, str) else spec.backbone
    if isinstance(net, NetSpec):
        if not 0 < spec.backbone_survival <= 1:
            raise UserError(
                f"model.backbone_survival={spec.backbone_survival}: expected a probability in "
                "(0, 1]"
            )
        net = replace(net, survival=spec.backbone_survival)
    return replace(spec, backbone=net)


def load_model(path: str | Path) -> EfficientDet:
    """Rebuild a detector from what this project wrote alone.

    Args:
        path: of a file, such as a run's ``best.ckpt``, or of a folder by
            `EfficientDet.save_pretrained`; or ``hf-hub:user/name``.

    Raises:
        UserError: the file cannot be read, or does not say what detector it holds.
    """
    from compound.weights import pretrained_file, read_file

    file = pretrained_file(path) or path
    content = read_file(file)
    spec = DetSpec.stored(content.metadata)
    if spec is None or content.num_classes is None:
        raise UserError(
            f"{path} does not say what detector it holds; build it by its name with "
            "create_model(..., weights=...)"
        )
    return create_model(
        spec, num_classes=content.num_classes, weights=file, class_names=content.class_names
    )


def _adopted(spec: DetSpec, theirs: DetSpec, changes: Mapping[str, Any]) -> DetSpec:
    """Return a spec with what belongs to weights, but for the anchors that were asked for."""
    taken = {key: getattr(theirs, key) for key in _ANCHORS if changes.get(key) is None}
    return replace(spec, backbone=theirs.backbone, **taken)


def _build_backbone(spec: DetSpec, weights: str | Path | None) -> tuple[Pyramid, DetSpec]:
    """Return the backbone of a resolved spec, and the spec with the conventions of its weights."""
    net = spec.backbone
    if isinstance(net, str):
        if weights not in (None, "imagenet"):
            raise UserError(
                f"backbone_weights={weights}: of timm's networks only imagenet can be had"
            )
        name = net.removeprefix(TIMM_PREFIX)
        return TimmPyramid(name, pretrained=weights is not None), spec
    try:
        classifier = networks.create_model(net, weights=weights, survival=spec.backbone_survival)
    except UserError as error:
        told = str(error).replace("weights=", "backbone_weights=")
        raise UserError(told) from error
    return classifier.trunk, replace(spec, backbone=classifier.spec)

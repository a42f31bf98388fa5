"""Convert: ``uv run tools/convert.py task=det model=det_lite0 weights=coco to=<folder>``."""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from compound.cli.networks import file_of, network_of
from compound.errors import UserError, closest
from compound.task import Format, find_task, task_names
from compound.weights import metadata_of, read_file, save_weights

log = logging.getLogger(__name__)

PRETRAINED = "pretrained"


def _safetensors(model: Any, metadata: dict[str, Any]) -> Callable[[Path], None]:
    return lambda path: save_weights(path, model.state_dict(), metadata)


# What any network can be written as; a folder of the hub has a writer of its own.
_COMMON = {PRETRAINED: None, "safetensors": Format(".safetensors", _safetensors)}


def convert(config: DictConfig) -> None:
    """Write weights in another format, or as a folder of the Hugging Face hub."""
    target = _target(config)
    model = network_of(config)[1].eval()
    _check_whole(model, config)
    file = file_of(config.weights)
    told = read_file(file).metadata if file.is_file() else {}
    about = {"metrics": told.get("metrics"), "license": config.license or told.get("license")}
    if target is not None:
        try:
            _write(model, target, str(config.format), {**about, "dataset": config.dataset})
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"to={config.to} cannot be written: {reason}") from error
        log.info("%s written to %s as %s", model.spec.name, target, config.format)
    if config.push is not None:
        url = model.push_to_hub(
            str(config.push), private=config.private, dataset=config.dataset, **about
        )
        log.info("%s uploaded to %s", model.spec.name, url)


def _target(config: DictConfig) -> Path | None:
    """Return the path to write, None where all is uploaded."""
    formats: dict[str, Format | None] = dict(_COMMON)
    for name in task_names():
        formats |= find_task(name).formats
    form = formats[closest(str(config.format), formats, what="format")]
    if config.push is not None and config.format != PRETRAINED:
        raise UserError(f"push={config.push} uploads format=pretrained, not {config.format}")
    if config.to is None:
        if config.push is None:
            raise UserError("to is not set; give to=<path>, or push=<user>/<name>")
        return None
    target = Path(str(config.to)).expanduser().absolute()
    if target.exists():
        raise UserError(f"to={config.to} exists already; name another path, or remove it")
    if form is not None and form.suffix is not None and target.suffix != form.suffix:
        raise UserError(f"to={config.to}: format={config.format} writes a {form.suffix} file")
    return target


def _check_whole(model: Any, config: DictConfig) -> None:
    """Refuse a network that the weights did not fill."""
    report = model.load_report
    if report is None:
        raise UserError(f"weights={config.weights} would write a random network; name some")
    if not report.complete:
        raise UserError(
            f"{report}; convert them as what they are, with task=, model= and "
            "+model.num_classes=<number>"
        )


def _write(model: Any, target: Path, name: str, about: dict[str, Any]) -> None:
    """Write the target completely or not at all.

    Raises:
        UserError: the format is another task's, or cannot hold the network.
    """
    if name == PRETRAINED:
        model.save_pretrained(target, **about)
        return
    task = find_task(model.task)
    form = {**_COMMON, **task.formats}.get(name)
    if form is None:
        known = ", ".join((*_COMMON, *task.formats))
        raise UserError(
            f"format={name} is not for task={task.name}, which these weights are of; it has {known}"
        )
    metadata = metadata_of(model, metrics=about["metrics"], license=about["license"])
    write = form.writer(model, metadata)
    if form.left is not None:  # it holds tensors alone
        told = metadata["preprocessing"]
        left = [f"mean {told['mean']}", f"std {told['std']}", *form.left(metadata)]
        left += ["class names"] if metadata["class_names"] else []
        log.info("this format holds tensors alone; tell what reads it: %s", ", ".join(left))
    fresh = target.with_name(f".{os.getpid()}{target.name}")  # beside it, with its suffix
    try:
        fresh.parent.mkdir(parents=True, exist_ok=True)
        write(fresh)
        fresh.rename(target)
    finally:
        if fresh.is_dir():
            shutil.rmtree(fresh)
        fresh.unlink(missing_ok=True)

"""Convert: ``uv run tools/convert.py task=det model=det_lite0 weights=coco to=<folder>``."""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from compound.errors import UserError, closest

log = logging.getLogger(__name__)

# How what a format writes is called; None is a folder.
SUFFIXES = {
    "pretrained": None,
    "safetensors": ".safetensors",
    "effdet": ".pth",
    "timm": ".safetensors",
    "tensorflow": None,
}


def convert(config: DictConfig) -> None:
    """Write weights in another format, or as a folder of the Hugging Face hub."""
    target = _target(config)
    from compound.cli.networks import file_of, network_of
    from compound.weights import read_file

    model = network_of(config).eval()
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
    """Return the path to write, None where all is uploaded.

    Raises:
        UserError: there is something, or it is called otherwise than its format is.
    """
    suffix = SUFFIXES[closest(str(config.format), SUFFIXES, what="format")]
    if config.push is not None and config.format != "pretrained":
        raise UserError(f"push={config.push} uploads format=pretrained, not {config.format}")
    if config.to is None:
        if config.push is None:
            raise UserError("to is not set; give to=<path>, or push=<user>/<name>")
        return None
    target = Path(str(config.to)).expanduser().absolute()
    if target.exists():
        raise UserError(f"to={config.to} exists already; name another path, or remove it")
    if suffix is not None and target.suffix != suffix:
        raise UserError(f"to={config.to}: format={config.format} writes a {suffix} file")
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


def _write(model: Any, target: Path, form: str, about: dict[str, Any]) -> None:
    """Write the target completely or not at all."""
    if form == "pretrained":
        model.save_pretrained(target, **about)
        return
    write = _writer(model, form, about)
    fresh = target.with_name(f".{os.getpid()}{target.name}")  # beside it, with its suffix
    try:
        fresh.parent.mkdir(parents=True, exist_ok=True)
        write(fresh)
        fresh.rename(target)
    finally:
        if fresh.is_dir():
            shutil.rmtree(fresh)
        fresh.unlink(missing_ok=True)


def _writer(model: Any, form: str, about: dict[str, Any]) -> Callable[[Path], None]:
    """Return what writes a network to a path, having made sure that the format can hold it."""
    import torch

    import efficientdet.weights
    from backbone.weights import interop
    from compound.cli.networks import detects
    from compound.weights import metadata_of, save_weights
    from compound.weights.tensorflow import write_checkpoint

    is_detector = detects(model)
    metadata = metadata_of(model, metrics=about["metrics"], license=about["license"])
    if form == "safetensors":
        return lambda path: save_weights(path, model.state_dict(), metadata)
    if form == "timm":
        if is_detector:
            raise UserError("format=timm holds classifiers; detectors have format=effdet")
        state = interop.to_timm(model)
        log.info("timm builds it by the name %s", interop.timm_name(model.spec))
        return lambda path: save_weights(path, state, metadata)
    if form == "effdet":
        if not is_detector:
            raise UserError("format=effdet holds detectors; classifiers have format=timm")
        state = efficientdet.weights.to_effdet(model)
        _tell_left(metadata)
        return lambda path: torch.save(state, path)
    home = efficientdet.weights if is_detector else interop
    state = home.to_official(model)
    _tell_left(metadata)
    return lambda path: write_checkpoint(path, state)


def _tell_left(metadata: dict[str, Any]) -> None:
    """Say what a format without metadata leaves out."""
    spec, told = metadata["model"], metadata["preprocessing"]
    left = [f"mean {told['mean']}", f"std {told['std']}"]
    if "octaves" in spec:
        octaves = [round(side, 4) for side in spec["octaves"]]
        left += [f"aspects {spec['aspects']}, anchor_scale {spec['anchor_scale']:g}"]
        left += [f"octaves {octaves}"]
    left += ["class names"] if metadata["class_names"] else []
    log.info("this format holds tensors alone; tell what reads it: %s", ", ".join(left))

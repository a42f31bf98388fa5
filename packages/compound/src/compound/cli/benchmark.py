"""Benchmark: ``uv run tools/benchmark.py task=det model=d0``: how fast, and the bottleneck."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from compound.cli.tables import print_table
from compound.errors import UserError
from compound.profiling import machine
from compound.profiling.bottleneck import judge_inference, judge_training
from compound.profiling.loading import measure_loader
from compound.profiling.memory import Peak, keep_memory
from compound.profiling.settings import Settings
from compound.profiling.steps import Timed, Training, measure_inference

log = logging.getLogger(__name__)


def benchmark(config: DictConfig) -> None:
    """Measure training and inference of what the configuration names; print and write it."""
    settings = Settings(
        device=machine.pick_device(str(config.trainer.accelerator)),
        precision=str(config.trainer.precision),
        rounds=config.rounds,
        warmup=config.warmup,
        clip=float(config.trainer.gradient_clip_val or 0),
    )
    pl.seed_everything(config.seed, workers=True, verbose=False)
    data = instantiate(config.data)
    module = instantiate(config.task, class_names=data.class_names, batch_size=data.batch_size)
    module.inform(data)
    if config.task.get("compile"):
        module.model.compile()
    try:
        found = _measured(module.to(settings.device), data, settings)
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"data.batch_size={data.batch_size}: the GPU's memory does not suffice; take a smaller "
            "one, or task.recompute"
        ) from error
    hydra = HydraConfig.get()
    content = {key: hydra.runtime.choices[key] for key in ("task", "model", "data")}
    content |= {"overrides": list(hydra.overrides.task), **asdict(settings)}
    content |= machine.describe(settings.device)
    path = Path(config.paths.output_dir) / "benchmark.json"
    path.write_text(json.dumps(content | found, indent=2) + "\n")
    _show(content, found)
    log.info("training: %s", found["training"]["binds"]["reason"])
    for timed in found["inference"]:
        log.info("inference, batch %d: %s", timed["batch_size"], timed["binds"]["reason"])
    log.info("written to %s", path)


def _measured(module: Any, data: Any, settings: Settings) -> dict[str, Any]:
    """Return, as plain values, what was measured, and the bottleneck."""
    keep_memory()
    pictures = next(iter(data.val_dataloader())).images[: data.batch_size]
    tensors = [*module.model.parameters(), *module.model.buffers()]
    peak = Peak(settings.device, own=sum(tensor.nbytes for tensor in tensors))
    training = Training(module, settings, batch_size=data.batch_size)
    inference = []
    for size in dict.fromkeys((1, len(pictures))):
        log.info("measuring inference, batch %d", size)
        inference.append(measure_inference(module, pictures[:size], settings, peak))
    log.info("measuring the loader")
    loader = measure_loader(data.train_dataloader(), settings)
    log.info("measuring training, batch %d", data.batch_size)
    step = training.measure(loader.kept, peak)
    log.info("measuring training and loader at once")
    together = training.measure_together(loader)
    verdict = judge_training(
        step,
        loader=loader.images_per_second,
        together=together,
        num_workers=loader.num_workers,
        device=settings.device,
    )
    return {
        "loader": {
            "num_workers": loader.num_workers,
            "images_per_second": loader.images_per_second,
        },
        "training": _plain(step) | {"binds": asdict(verdict)},
        "together": {"images_per_second": together},
        "inference": [_plain(one) | {"binds": asdict(judge_inference(one))} for one in inference],
    }


def _plain(timed: Timed) -> dict[str, Any]:
    return asdict(timed) | {"images_per_second": timed.images_per_second}


def _show(content: dict[str, Any], found: dict[str, Any]) -> None:
    """Print a row for every part, a column for every kind of step."""
    columns = [("training", found["training"])]
    columns += [("inference", inference) for inference in found["inference"]]
    title = (
        f"task={content['task']} model={content['model']} data={content['data']} on "
        f"{content['device']}, {content['threads']} threads, {content['precision']}, "
        f"torch {content['versions']['torch']}"
    )
    heads = ["milliseconds"]
    for name, timed in columns:
        height, width = timed["image_size"]
        heads += [f"{name}\n{timed['batch_size']} x {height} x {width}", "share"]
    print_table(title, heads, list(_rows([timed for _, timed in columns])))


def _rows(columns: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    for part in dict.fromkeys(part for timed in columns for part in timed["parts"]):
        yield [part, *(cell for timed in columns for cell in _cells(timed["parts"], part))]
    for name, key, factor, digits in (
        ("all, median", "median", 1000, 1),
        ("all, 90th percentile", "p90", 1000, 1),
        ("images/s", "images_per_second", 1, 1),
        ("peak memory, GiB", "peak_gib", 1, 2),
    ):
        yield [name, *(c for timed in columns for c in (f"{timed[key] * factor:.{digits}f}", ""))]


def _cells(parts: dict[str, float], part: str) -> tuple[str, str]:
    if part not in parts:
        return "", ""
    return f"{1000 * parts[part]:.1f}", f"{parts[part] / sum(parts.values()):.0%}"

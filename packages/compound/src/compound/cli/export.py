"""Export: ``uv run tools/export.py weights=<run> target=[onnx,int8]``."""

import json
import logging
import math
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from compound.cli.networks import check_prediction, file_of, network_of, plain
from compound.cli.runs import as_trained, pictures_of, run_of
from compound.errors import UserError
from compound.export.comparison import calibration_images, compared_rows
from compound.export.engines import milliseconds
from compound.export.runtime import open_program
from compound.export.targets import TARGETS, Target, check_target, write
from compound.profiling.machine import describe
from compound.report.page import Part, Section, Table, Text, write_page
from compound.report.training import making_section
from compound.task import Exporter, Task
from compound.weights import read_file

log = logging.getLogger(__name__)

EXIT_FAILED = 1
# Runtimes with converters of their own -> the target that these read.
OTHERS = {"tensorrt": "onnx", "coreml": "pt2", "litert": "onnx", "tflite": "onnx"}
ROUNDS = 20
# What the score of an export in 32 bits may differ by.
FALL = 0.001


def export(config: DictConfig) -> None:
    """Write a network for other runtimes, each compared with PyTorch on real pictures."""
    targets = _checked(config)
    config = as_trained(config)
    task, model = network_of(config)
    file = file_of(config.weights)
    about = read_file(file).metadata if file.is_file() else {}
    about = {key: about.get(key) for key in ("metrics", "license")}
    exporter = task.exporter(model.eval(), plain(config), partial(instantiate, config.data))
    _check_data(exporter, config, targets)
    folder = Path(config.paths.output_dir)
    told = _exported(task, exporter, config, targets, about, folder)
    (folder / "export.json").write_text(json.dumps(told, indent=2) + "\n")
    columns, rows = _table(told)
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    for cells in (columns, *rows):
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
        log.info("%s", line.rstrip())
    shape = " x ".join(map(str, told["shape"]))
    log.info("ms: a run at %s; +-: the most that %d pictures differ", shape, told["pictures"])
    if config.report:
        note = (
            f"Milliseconds are the median of {ROUNDS} runs in turns at {shape}"
            f"{', NMS of the exports included' if told['nms'] else ', without post-processing'}; "
            f"+- is the most that any of {told['pictures']} pictures differs."
        )
        _report(folder, told, config, Table("Each in its own runtime", columns, rows, note))
    log.info("written to %s", folder)
    failed = [row["target"] for row in told["exports"] if row["failed"]]
    if failed:
        log.error("not kept, as they differ from PyTorch: %s", ", ".join(failed))
        sys.exit(EXIT_FAILED)


def _checked(config: DictConfig) -> list[Target]:
    """Return the targets; refuse values of no use before anything is loaded."""
    names = [config.target] if isinstance(config.target, str) else list(config.target or [])
    if not names:
        raise UserError(f"target=[]: expected {', '.join(TARGETS)}, or several of them")
    targets = []
    for name in map(str, names):
        if name.lower() in OTHERS:
            raise UserError(
                f"target={name}: it reads what target={OTHERS[name.lower()]} writes, by a tool "
                "of its own; see docs/export.md"
            )
        targets.append(check_target(name))
    for key in ("pictures", "calibration", "batch_size"):
        value = config[key]
        if not (isinstance(value, int) and value > 0) and (key, value) != ("batch_size", None):
            raise UserError(f"{key}={value}: expected a whole number of 1 or more")
    check_prediction(config)
    return targets


def _check_data(exporter: Exporter, config: DictConfig, targets: list[Target]) -> None:
    """Make sure that there are images for all that is to be done."""
    data = exporter.data
    calibrated = next((target.name for target in targets if target.calibrated), None)
    for key in ["split"] + (["calibration_split"] if calibrated else []):
        if config[key] not in data.splits:
            known = " or ".join(f"{key}={split}" for split in data.splits)
            raise UserError(f"{key}={config[key]}: there is no such split; give {known}")
    if calibrated and config.data.root is None and run_of(config.weights) is None:
        raise UserError(
            f"target={calibrated} measures the maps on pictures such as the network will see, not "
            "on drawn ones; give data= and data.root="
        )
    if not len(compared_rows(data, config)):
        raise UserError(
            f"calibration={config.calibration}: no picture of {config.split} is left to compare on"
        )


def _exported(
    task: Task,
    exporter: Exporter,
    config: DictConfig,
    targets: list[Target],
    about: dict[str, Any],
    folder: Path,
) -> dict[str, Any]:
    """Write every target and compare it; keep what passes. Return what there is to tell."""
    model = exporter.model
    log.info("tracing %s", model.spec.name)
    program = exporter.program(nms=config.nms, about=about)
    wanted = exporter.predictions(model)
    score = exporter.score(wanted)
    _check_score(score, config, targets)
    rows: list[dict[str, Any]] = []
    runs: dict[str, Any] = {"eager": lambda images: model(model.normalize(images))}
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        written: dict[str, list[Path]] = {}
        for target in targets:
            log.info("writing %s", target.name)
            path = Path(scratch, model.spec.name + target.suffix)
            images = calibration_images(exporter.data, config) if target.calibrated else ()
            written[target.name] = write(program, path, target.name, images)
            network = task.exported(open_program(path))
            found = exporter.predictions(network)
            size = sum(file.stat().st_size for file in written[target.name])
            row = {"target": target.name, "file": path.name, "bytes": size}
            row["differences"] = exporter.differences(wanted, found)
            row[exporter.metric] = exporter.score(found)
            rows.append({**row, "failed": _failed(row, target, exporter, score)})
            runs[target.name] = network.run
        shape = (config.batch_size or 1, len(model.mean), *exporter.image_size)
        image = torch.randint(0, 256, shape, dtype=torch.uint8)
        times = milliseconds(runs, image, rounds=ROUNDS)
        for row in rows:
            row["milliseconds"] = times[row["target"]]
            for file in () if row["failed"] else written[row["target"]]:
                file.replace(folder / file.name)
    return {
        "architecture": model.spec.name,
        "weights": str(config.weights),
        "pictures": len(wanted),
        "of": pictures_of(config),
        "shape": list(image.shape),
        "nms": bool(config.nms),
        "metric": exporter.metric,
        "units": dict(exporter.units),
        "eager": {exporter.metric: score, "milliseconds": times["eager"]},
        "exports": rows,
    }


def _check_score(score: float | None, config: DictConfig, targets: list[Target]) -> None:
    """Refuse to quantise where no score can tell what it costs."""
    if score is not None and not math.isnan(score):
        return
    why = (
        f"the pictures of {config.split} have classes that the network does not know, or no object"
    )
    for target in targets:
        if target.calibrated:
            raise UserError(
                f"target={target.name}: {why}, so that its loss cannot be measured; give other "
                "data="
            )
    log.warning("%s: differences are measured, no score", why)


def _failed(
    row: Mapping[str, Any], target: Target, exporter: Exporter, eager: float | None
) -> list[str]:
    """Return what an export does not hold to."""
    failed = []
    if not target.calibrated:
        failed = [
            f"{kind} {value:.2g}"
            for kind, value in row["differences"].items()
            if not value <= exporter.limits[kind]
        ]
    if eager is not None and not math.isnan(eager):
        worse = eager - row[exporter.metric]
        if not exporter.higher_is_better:
            worse = -worse
        if not (worse <= exporter.fall if target.calibrated else abs(worse) <= FALL):
            failed.append(f"{exporter.metric} {row[exporter.metric]:.4f} against {eager:.4f}")
    return failed


def _table(told: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return columns and rows of what was exported, PyTorch's own first."""
    metric = told["metric"]
    kinds = list(told["exports"][0]["differences"])
    named = [f"+-{kind}{told['units'].get(kind, '')}" for kind in kinds]
    columns = ["target", "MB", "ms", *named, metric, ""]

    def number(score: float | None) -> str:
        return "" if score is None else f"{score:.4f}"

    own = told["eager"]
    blank = [""] * len(kinds)
    rows = [["PyTorch", "", f"{own['milliseconds']:.1f}", *blank, number(own[metric]), ""]]
    for row in told["exports"]:
        outcome = f"FAILED: {', '.join(row['failed'])}" if row["failed"] else row["file"]
        cells = [row["target"], f"{row['bytes'] / 1e6:.1f}", f"{row['milliseconds']:.1f}"]
        cells += [f"{row['differences'][kind]:.1e}" for kind in kinds]
        rows.append([*cells, number(row[metric]), outcome])
    return columns, rows


def _report(folder: Path, told: Mapping[str, Any], config: DictConfig, table: Table) -> None:
    parts: list[Part] = [table]
    if told["eager"][told["metric"]] is None:
        parts.append(Text("Not scored: the pictures have classes that the network does not know."))
    write_page(
        folder / "report.html",
        title=f"{told['architecture']}, exported",
        summary=f"Compared on {told['pictures']} pictures of {Path(told['of']).name}",
        sections=[
            Section("Exports", parts),
            making_section(OmegaConf.to_yaml(config, resolve=True), describe("cpu")),
        ],
    )

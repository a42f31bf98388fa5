"""Export: ``uv run tools/export.py weights=<run> target=[onnx,int8]``."""

import json
import logging
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from compound.cli.runs import as_trained, implied, pictures_of, run_of
from compound.errors import UserError, closest

if TYPE_CHECKING:
    from compound.cli.exporters import Exporter
    from compound.export.program import Program

log = logging.getLogger(__name__)

EXIT_FAILED = 1
INT8 = "int8"
# Runtimes with converters of their own -> the target that these read.
OTHERS = {"tensorrt": "onnx", "coreml": "pt2", "litert": "onnx", "tflite": "onnx"}
ROUNDS = 20
# What an export in 32 bits may differ by: rounding, and the few detections that it decides.
LIMITS = {"score": 1e-3, "box": 0.1, "unmatched": 2e-3, "probability": 1e-3, "top1": 0.0}
UNITS = {"box": " px", "unmatched": " share"}
# What its score may differ by, and what that of 8 bits may fall by.
FALL = 0.001
INT8_FALLS = {"mAP": 0.010, "top1": 0.020}


def export(config: DictConfig) -> None:
    """Write a network for other runtimes, each compared with PyTorch on real pictures."""
    from compound.cli.exporters import exporter_of
    from compound.cli.networks import file_of, network_of
    from compound.weights import read_file

    targets = _checked(config)
    config = as_trained(config)
    model = network_of(config).eval()
    file = file_of(config.weights)
    about = read_file(file).metadata if file.is_file() else {}
    about = {key: about.get(key) for key in ("metrics", "license")}
    exporter = exporter_of(model, config)
    _check_data(exporter, config, targets)
    folder = Path(config.paths.output_dir)
    told = _exported(exporter, config, targets, about, folder)
    (folder / "export.json").write_text(json.dumps(told, indent=2) + "\n")
    _tell(told)
    if config.report:
        _report(folder, told, config)
    log.info("written to %s", folder)
    failed = [row["target"] for row in told["exports"] if row["failed"]]
    if failed:
        log.error("not kept, as they differ from PyTorch: %s", ", ".join(failed))
        sys.exit(EXIT_FAILED)


def _checked(config: DictConfig) -> list[str]:
    """Return the targets; refuse values that nothing can be done with, before anything is loaded.

    Raises:
        UserError: a value is out of its range, or a target unknown or without its packages.
    """
    from compound.cli.viewers import check_detection
    from compound.export.program import SUFFIXES, check_target
    from efficientdet.postprocess import METHODS

    targets = [config.target] if isinstance(config.target, str) else list(config.target or [])
    if not targets:
        known = ", ".join((*SUFFIXES, INT8))
        raise UserError(f"target=[]: expected {known}, or several of them")
    for target in map(str, targets):
        if target.lower() in OTHERS:
            raise UserError(
                f"target={target}: it reads what target={OTHERS[target.lower()]} writes, by a tool "
                "of its own; see docs/export.md"
            )
        closest(target, (*SUFFIXES, INT8), what="target")
        check_target("onnx" if target == INT8 else target)
    for key in ("pictures", "calibration", "batch_size"):
        value = config[key]
        if not (isinstance(value, int) and value > 0) and (key, value) != ("batch_size", None):
            raise UserError(f"{key}={value}: expected a whole number of 1 or more")
    check_detection(config)
    if config.nms and METHODS[config.method].soft:
        hard = [name for name, method in METHODS.items() if not method.soft]
        raise UserError(
            f"method={config.method}: runtimes suppress hard only; give {' or '.join(hard)}, or "
            "nms=false"
        )
    return targets


def _check_data(exporter: "Exporter", config: DictConfig, targets: list[str]) -> None:
    """Make sure that there are pictures for all that is to be done."""
    from compound.cli.exporters import compared

    data = exporter.data
    keys = ["split"] + (["calibration_split"] if INT8 in targets else [])
    for key in keys:
        if config[key] not in data.splits:
            known = " or ".join(f"{key}={split}" for split in data.splits)
            raise UserError(f"{key}={config[key]}: there is no such split; give {known}")
    if INT8 in targets and config.data.root is None and run_of(config.weights) is None:
        raise UserError(
            "target=int8 measures the maps on pictures such as the network will see, not on drawn "
            "ones; give data= and data.root="
        )
    if not len(compared(data, config)):
        raise UserError(
            f"calibration={config.calibration}: no picture of {config.split} is left to compare on"
        )


def _exported(
    exporter: "Exporter",
    config: DictConfig,
    targets: list[str],
    about: dict[str, Any],
    folder: Path,
) -> dict[str, Any]:
    """Write every target and compare it; keep what passes. Return what there is to tell."""
    import torch

    from compound.export.engines import milliseconds

    model = exporter.model
    log.info("tracing %s", model.spec.name)
    program = exporter.program(nms=config.nms, about=about)
    wanted = exporter.findings(model)
    score = exporter.score(wanted)
    _check_comparison(wanted, score, config, targets)
    rows: list[dict[str, Any]] = []
    runs: dict[str, Any] = {"eager": lambda images: model(model.normalize(images))}
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        written = _written(exporter, config, targets, program, Path(scratch))
        for target, files in written.items():
            network = exporter.open(files[0])
            found = exporter.findings(network)
            told = {"target": target, "file": files[0].name, "bytes": _bytes(files)}
            told["differences"] = exporter.differences(wanted, found)
            told[exporter.metric] = exporter.score(found)
            rows.append({**told, "failed": _failed(told, exporter.metric, score)})
            runs[target] = network.run
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
        "eager": {exporter.metric: score, "milliseconds": times["eager"]},
        "exports": rows,
    }


def _written(
    exporter: "Exporter", config: DictConfig, targets: list[str], program: "Program", scratch: Path
) -> dict[str, list[Path]]:
    """Return the files of every target, the program's first."""
    from compound.cli.exporters import calibrated
    from compound.export.program import SUFFIXES, check_target, write
    from compound.export.quantize import quantize

    stem = scratch / exporter.model.spec.name
    written: dict[str, list[Path]] = {}
    for target in targets:
        log.info("writing %s", target)
        if target != INT8:
            kind = check_target(target)
            written[target] = write(program, stem.with_suffix(SUFFIXES[kind]), kind)
            continue
        source = written.get("onnx") or write(program, scratch / "source.onnx", "onnx")
        path = stem.with_suffix(".int8.onnx")
        quantize(source[0], path, calibrated(exporter, config))
        written[target] = [path]
    return written


def _check_comparison(
    wanted: list[Any], score: float | None, config: DictConfig, targets: list[str]
) -> None:
    """Refuse a comparison that would say nothing."""
    if not any(len(of_picture.scores) for of_picture in wanted):
        raise UserError(
            f"score_threshold={config.score_threshold}: nothing is found in {len(wanted)} "
            "pictures, so there is nothing to compare; lower it"
        )
    if score is not None and not math.isnan(score):
        return
    why = (
        f"the pictures of {config.split} have classes that the network does not know, or no object"
    )
    if INT8 in targets:
        raise UserError(
            f"target=int8: {why}, so that its loss cannot be measured; give other data="
        )
    log.warning("%s: differences are measured, no score", why)


def _failed(row: Mapping[str, Any], metric: str, eager: float | None) -> list[str]:
    """Return what an export does not hold to."""
    failed = []
    if row["target"] != INT8:
        failed = [f"{k} {v:.2g}" for k, v in row["differences"].items() if not v <= LIMITS[k]]
    if eager is not None and not math.isnan(eager):
        fall = eager - row[metric]
        allowed = INT8_FALLS[metric] if row["target"] == INT8 else FALL
        if not (fall if row["target"] == INT8 else abs(fall)) <= allowed:
            failed.append(f"{metric} {row[metric]:.4f} against {eager:.4f}")
    return failed


def _table(told: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return columns and rows of what was exported, PyTorch's own first."""
    metric = told["metric"]
    kinds = list(told["exports"][0]["differences"])
    named = [f"+-{kind}{UNITS.get(kind, '')}" for kind in kinds]
    columns = ["target", "MB", "ms", *named, metric, ""]
    rows = [["PyTorch", "", f"{told['eager']['milliseconds']:.1f}", *([""] * len(kinds))]]
    rows[0] += [_number(told["eager"][metric]), ""]
    for row in told["exports"]:
        verdict = f"FAILED: {', '.join(row['failed'])}" if row["failed"] else row["file"]
        cells = [row["target"], f"{row['bytes'] / 1e6:.1f}", f"{row['milliseconds']:.1f}"]
        cells += [f"{row['differences'][kind]:.1e}" for kind in kinds]
        rows.append([*cells, _number(row[metric]), verdict])
    return columns, rows


def _number(score: float | None) -> str:
    return "" if score is None else f"{score:.4f}"


def _bytes(files: list[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def _tell(told: Mapping[str, Any]) -> None:
    """Print the table."""
    columns, rows = _table(told)
    shown = [columns, *rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for cells in shown:
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
        log.info("%s", line.rstrip())
    log.info(
        "ms: a run at %s; +-: the most that %d pictures differ", _shape(told), told["pictures"]
    )


def _shape(told: Mapping[str, Any]) -> str:
    return " x ".join(map(str, told["shape"]))


def _report(folder: Path, told: Mapping[str, Any], config: DictConfig) -> None:
    from compound.profiling.machine import describe
    from compound.report.page import Part, Section, Table, Text, write_page
    from compound.report.training import making_section

    columns, rows = _table(told)
    note = (
        f"Milliseconds are the median of {ROUNDS} runs in turns at {_shape(told)}"
        f"{', NMS of the exports included' if told['nms'] else ', without post-processing'}; +- is "
        f"the most that any of {told['pictures']} pictures differs."
    )
    parts: list[Part] = [Table("Each in its own runtime", columns, rows, note)]
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


def settled(arguments: Sequence[str]) -> list[str]:
    """Return what a command line leaves to the run that it names, as overrides."""
    return implied(arguments)

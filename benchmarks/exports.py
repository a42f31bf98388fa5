"""Every export of every variant beside PyTorch, and what the real ones score.

``uv run benchmarks/exports.py variants [NAME ...]`` writes each network, with random weights and at
a reduced size, for every target, runs it in its own runtime and adds the largest difference, as a
share of the largest output, to ``results/export_variants.json``. Beside it stands what PyTorch's
own 32 bits differ from 64: an export cannot be expected to come closer.

``uv run benchmarks/exports.py real COCO LITE0_WEIGHTS IMAGENET`` runs ``tools/export.py`` on those
with genuine weights and writes ``results/export_real.json``.

Both write ``docs/export_table.md``.
"""

import argparse
import copy
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import provenance
import torch
from torch import Tensor

import backbone
import efficientdet
import efficientnetv2
from backbone.classification.export import classifier_program
from compound.errors import UserError
from compound.export.engines import leaves
from compound.export.targets import TARGETS, write
from efficientdet.export.detector_program import detector_program
from efficientdet.export.differences import compare

RESULTS = provenance.RESULTS
PACKAGES: tuple[Any, ...] = (backbone, efficientnetv2, efficientdet)
RUNTIMES = ("onnxruntime", "openvino")
CLASSES, LEAST_SCORE = 5, 0.05
CLASSIFIER_SIZE = 64
PICTURES, SETTLING_PICTURES = 3, 32
_ABOUT = (
    "Largest difference of the outputs from PyTorch's, as a share of the largest output, with "
    "random weights at a reduced size; with NMS inside that of scores, of boxes as a share of the "
    "picture, or the share of detections that only one of both has. Rounding: PyTorch's own "
    "outputs, before NMS, against those that it computes in 64 bits."
)
REAL: dict[str, Sequence[str]] = {
    "det_lite0": (
        "task=det",
        "model=det_lite0",
        "data=coco",
        "data.root={coco}",
        "weights={lite0}",
    ),
    "det_lite0, NMS inside": (
        *("task=det", "model=det_lite0", "data=coco", "data.root={coco}", "weights={lite0}"),
        "nms=true",
    ),
    **{
        f"lite{i}": (
            *("task=cls", f"model=lite{i}", "data=imagenet", "data.root={imagenet}"),
            *("weights=package", "pictures=200", "calibration=50", "calibration_split=val"),
        )
        for i in range(3)
    },
}
UNCALIBRATED = [name for name, target in TARGETS.items() if not target.calibrated]


def main() -> None:
    """Do what is asked, then write the tables."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("variants").add_argument("names", nargs="*")
    real = commands.add_parser("real")
    for name in ("coco", "lite0", "imagenet"):
        real.add_argument(name)
    arguments = parser.parse_args()
    if arguments.command == "variants":
        measure_variants(arguments.names)
    else:
        measure_real({name: getattr(arguments, name) for name in ("coco", "lite0", "imagenet")})
    (provenance.ROOT / "docs/export_table.md").write_text(tables())


def measure_variants(names: Sequence[str]) -> None:
    """Write, run and compare; keep what is known of other variants."""
    path = RESULTS / "export_variants.json"
    known = json.loads(path.read_text())["variants"] if path.exists() else {}
    for name in names or variants():
        known[name] = row = differences(name)
        print(name, {key: row[key] for key in row if key != "command"}, flush=True)
        told = {"command": "uv run benchmarks/exports.py variants"}
        provenance.keep(path, told, {"variants": known}, peers=RUNTIMES)


def variants() -> list[str]:
    """Return every name, of detectors with and without NMS inside."""
    detectors = [name for model in efficientdet.list_models() for name in (model, f"{model} nms")]
    return [*detectors, *efficientnetv2.list_models(), *backbone.list_models()]


def differences(name: str) -> dict[str, Any]:
    """Return the largest difference by target, and seconds of writing, or what failed."""
    torch.manual_seed(0)
    model_name, _, nms = name.partition(" ")
    detects = model_name in efficientdet.list_models()
    size = CLASSIFIER_SIZE
    if detects:
        size = 2 ** efficientdet.EFFICIENTDET[model_name].max_level
    package = next(p for p in PACKAGES if model_name in p.list_models())
    model = package.create_model(model_name, num_classes=CLASSES, image_size=size)
    settling = torch.randint(0, 256, (SETTLING_PICTURES, 3, size, size), dtype=torch.uint8)
    settle(model, settling)
    images = settling[:PICTURES]
    row: dict[str, Any] = {"size": size, "rounding": rounding(model, images)}
    began = time.perf_counter()
    if detects:
        program = detector_program(model, nms={"score_threshold": LEAST_SCORE} if nms else None)
    else:
        program = classifier_program(model)
    row["trace_seconds"] = time.perf_counter() - began
    for target in UNCALIBRATED:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, f"network{TARGETS[target].suffix}")
            try:
                write(program, file, target)
                exported = (efficientdet if detects else backbone).load_exported(file)
            except UserError as error:
                row[target] = str(error)
                continue
            difference = of_detections if nms else of_outputs
            apart = difference(model, exported, images)
        row[target] = {"difference": apart, "seconds": time.perf_counter() - began}
    return row


@torch.no_grad()
def settle(model: Any, images: Tensor) -> None:
    """Make a random network say something.

    Its norms get statistics, as the maps of deep ones would grow beyond all measure, and its logits
    spread by 2 around -1: else their order would be a matter of rounding.
    """
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    model.train()
    model(model.normalize(images))
    model.eval()
    detects = hasattr(model, "class_head")
    last = model.class_head.predict.pointwise if detects else model.classifier
    last.bias.zero_()
    outputs = model(model.normalize(images))
    logits = [level.flatten() for level in outputs[0]] if detects else [outputs.flatten()]
    last.weight *= 2 / torch.cat(logits).std()
    last.bias.fill_(-1.0)


@torch.no_grad()
def rounding(model: Any, images: Tensor) -> float:
    """Return how far the network is from itself in 64 bits."""
    pixels = model.normalize(images)
    return _apart(model(pixels), copy.deepcopy(model).double()(pixels.double()))


@torch.no_grad()
def of_outputs(model: Any, exported: Any, images: Tensor) -> float:
    """Return how far an exported network is from the network."""
    return _apart(exported.run(images), model(model.normalize(images)))


def _apart(found: Any, wanted: Any) -> float:
    """Return the largest difference of outputs as a share of the largest output."""
    largest = max(float(y.abs().max()) for y in leaves(wanted))
    pairs = zip(leaves(found), leaves(wanted), strict=True)
    return max(float((x - y).abs().max()) for x, y in pairs) / largest


def of_detections(model: Any, exported: Any, images: Tensor) -> float:
    """Return the largest difference of scores, boxes as a share of the picture, or number."""
    wanted = model.predict(images, score_threshold=LEAST_SCORE)
    assert any(len(of_picture.scores) for of_picture in wanted)
    apart = compare(wanted, exported.predict(images))
    return max(apart.score, apart.box / images.shape[2], apart.unmatched)


def measure_real(folders: Mapping[str, str]) -> None:
    """Export networks with genuine weights by the tool; keep what it reports."""
    rows = {}
    for name, settings in REAL.items():
        words = [word.format(**folders) for word in settings]
        targets = "target=[onnx,openvino,pt2,int8]"
        with tempfile.TemporaryDirectory() as folder:
            call = [sys.executable, str(provenance.ROOT / "tools/export.py"), *words, targets]
            subprocess.run([*call, f"hydra.run.dir={folder}"], check=True)
            told = json.loads(Path(folder, "export.json").read_text())
        told["command"] = provenance.shown("export.py", [*words, targets])
        for key in ("weights", "of"):
            told[key] = Path(told[key]).name
        rows[name] = told
    told = {"command": "uv run benchmarks/exports.py real COCO LITE0_WEIGHTS IMAGENET"}
    provenance.keep(RESULTS / "export_real.json", told, {"networks": rows}, peers=RUNTIMES)


def tables() -> str:
    """Return in Markdown what there is of both results."""
    lines = ["# Exports", "", "Written by `benchmarks/exports.py`.", ""]
    if (path := RESULTS / "export_real.json").exists():
        real = json.loads(path.read_text())
        lines += [f"## With genuine weights ({real['commit'][:12]})", "", *_real_table(real), ""]
    if (path := RESULTS / "export_variants.json").exists():
        every = json.loads(path.read_text())
        lines += [f"## Every variant ({every['commit'][:12]})", "", _ABOUT, ""]
        lines += [*_variants_table(every), ""]
    return "\n".join(lines)


def _real_table(real: Mapping[str, Any]) -> Iterator[str]:
    yield "| network | target | MB | ms | largest difference | score |"
    yield "|---|---|---|---|---|---|"
    for name, told in real["networks"].items():
        metric, eager = told["metric"], told["eager"]
        yield (f"| {name} | PyTorch | | {eager['milliseconds']:.1f} | "
               f"| {metric} {eager[metric]:.4f} |")  # fmt: skip
        for row in told["exports"]:
            apart = ", ".join(f"{kind} {value:.1e}" for kind, value in row["differences"].items())
            yield (f"| | {row['target']} | {row['bytes'] / 1e6:.1f} | {row['milliseconds']:.1f} "
                   f"| {apart} | {metric} {row[metric]:.4f} |")  # fmt: skip


def _variants_table(every: Mapping[str, Any]) -> Iterator[str]:
    targets = UNCALIBRATED
    yield f"| network | side | rounding | {' | '.join(targets)} |"
    yield "|---|---|---|" + "---|" * len(targets)
    for name, row in every["variants"].items():
        cells = [row[target] for target in targets]
        told = [c if isinstance(c, str) else f"{c['difference']:.1e}" for c in cells]
        yield f"| {name} | {row['size']} | {row['rounding']:.1e} | {' | '.join(told)} |"


if __name__ == "__main__":
    main()

"""What each way from outputs to detections costs and gives.

``uv run benchmarks/postprocess.py WEIGHTS COCO_ROOT [--model lite0]`` scores a detector on a
COCO validation split with every method and with test-time augmentation, times network and
post-processing apart, interleaved picture by picture so that drift cancels, and writes
``results/postprocess.json`` and the table in ``docs/postprocessing.md``.
"""

import argparse
import json
import os
import platform
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from efficientdet import EfficientDet, create_model
from efficientdet.data.datamodule import DetectionData
from efficientdet.data.dataset import Batch
from efficientdet.data.splits import coco_splits
from efficientdet.evaluation.evaluator import CocoEvaluator, EvaluationOptions
from efficientdet.module import to_source

ROOT = Path(__file__).parent.parent
SETTINGS: dict[str, dict[str, Any]] = {
    "per_class": {"method": "per_class"},
    "fast": {"method": "fast"},
    "soft": {"method": "soft"},
    "flip": {"flip": True},
    "a smaller scale": {"scales": [0.8, 1.0]},
    "scales": {"scales": [1.0, 1.4]},
    "flip, scales": {"flip": True, "scales": [1.0, 1.4]},
    "flip, scales, soft": {"flip": True, "scales": [1.0, 1.4], "method": "soft"},
}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("weights")
    parser.add_argument("root")
    parser.add_argument("--model", default="lite0")
    arguments = parser.parse_args()
    data = DetectionData(
        root=arguments.root,
        read=coco_splits,
        image_size=320,
        batch_size=1,
        seed=0,
        num_workers=0,
    )
    model = create_model(
        f"efficientdet_{arguments.model}",
        num_classes=len(data.class_names),
        class_names=data.class_names,
        weights=arguments.weights,
    ).eval()
    model.to(memory_format=torch.channels_last)
    red, green, blue = (round(value) for value in model.preprocessing.mean)
    data.pad_colour, data.size = (red, green, blue), model.image_size
    rows = measure(model, data, SETTINGS)
    data.antialias = False
    rows |= measure(model, data, {"per_class, data.antialias=false": {"method": "per_class"}})
    results = {
        "weights": Path(arguments.weights).name,
        "pictures": len(data.splits["val"]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rows": rows,
    }
    path = ROOT / "benchmarks/results/postprocess.json"
    path.write_text(json.dumps(results, indent=2) + "\n")
    page = ROOT / "docs/postprocessing.md"
    head = page.read_text().partition("<!-- table -->")[0]
    page.write_text(f"{head}<!-- table -->\n{_table(results)}")


def measure(
    model: EfficientDet, data: DetectionData, settings_by_name: Mapping[str, dict[str, Any]]
) -> dict[str, dict[str, float]]:
    """Return AP, AP50, AP75 and median milliseconds a picture of each setting."""
    index = data.splits["val"]
    evaluators = {name: CocoEvaluator(index, EvaluationOptions()) for name in settings_by_name}
    times: defaultdict[str, list[float]] = defaultdict(list)
    for batch in data.val_dataloader():
        assert isinstance(batch, Batch)
        with torch.no_grad():
            started = time.perf_counter()
            model(model.normalize(batch.images))
            times["network"].append(time.perf_counter() - started)
        for name, settings in settings_by_name.items():
            started = time.perf_counter()
            found = model.predict(batch.images, **settings)
            times[name].append(time.perf_counter() - started)
            (detections,) = to_source(found, batch)
            evaluators[name].add(int(batch.image_ids), detections)
    rows = {}
    for name, evaluator in evaluators.items():
        metrics = evaluator.evaluate()[0].metrics
        rows[name] = {key: round(metrics[key], 4) for key in ("mAP", "AP50", "AP75")}
        # The first pictures warm up.
        rows[name]["ms"] = round(1000 * float(np.median(times[name][5:])), 1)
        rows[name]["network_ms"] = round(1000 * float(np.median(times["network"][5:])), 1)
    return rows


def _table(results: dict[str, Any]) -> str:
    lines = [
        "",
        f"Measured on {results['pictures']} pictures with `{results['weights']}` by "
        "`uv run benchmarks/postprocess.py WEIGHTS COCO_ROOT`",
        f"({results['machine']}, {results['threads']} threads, torch {results['torch']}, one "
        "picture at a time, medians):",
        "",
        "| setting | AP | AP50 | AP75 | ms a picture, network included |",
        "|---|---|---|---|---|",
    ]
    for name, row in results["rows"].items():
        lines.append(
            f"| `{name}` | {row['mAP']:.3f} | {row['AP50']:.3f} | {row['AP75']:.3f} "
            f"| {row['ms']:.0f} |"
        )
    network = next(iter(results["rows"].values()))["network_ms"]
    return "\n".join([*lines, "", f"The network alone takes {network:.0f} ms.", ""])


if __name__ == "__main__":
    main()

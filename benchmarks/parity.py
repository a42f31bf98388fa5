"""How close each network is to its originals under the same weights.

``uv run benchmarks/parity.py`` gives every classifier timm's, torchvision's and (for those that are
recorded) the official code's weights, compares logits and every feature level, does the same to
detectors (see `parity_detectors`), and writes ``results/parity.json`` and ``docs/model_zoo.md``.
The weights are random, norms' statistics too, so that every mistake shows. Official outputs are
read from the folder that COMPOUND_DATA names.
"""

import json
import os
import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import parity_detectors as detectors
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from backbone import EFFICIENTNET, EfficientNet
from backbone.weights import fill, read_weights
from compound.profiling.cost import measure
from efficientdet import create_model as create_detector
from efficientnetv2 import EFFICIENTNETV2

ROOT = Path(__file__).parent.parent
TABLE = EFFICIENTNET | EFFICIENTNETV2
TORCHVISION = [f"efficientnet_b{i}" for i in range(8)] + [f"efficientnetv2_{s}" for s in "sml"]
# Even, and odd on both sides; both small, as the largest network has 480 million parameters.
SIZES = ((64, 64), (77, 51))
OFFICIAL = {"efficientnetv2_b0": ("b1_224x224", "b1_171x133_odd", "b2_128x128")}


def against_timm(name: str) -> float:
    """Return the largest relative difference of logits and levels to timm's ``tf_`` network."""
    with torch.device("meta"):
        theirs: Any = timm.create_model(f"tf_{name}")
    randomise(theirs, name)

    def outputs(images: Tensor) -> list[Tensor]:
        return [*theirs.forward_intermediates(images, intermediates_only=True), theirs(images)]

    return _largest(_with_their_weights(name, theirs), outputs)


def against_torchvision(name: str) -> float:
    """Return the largest relative difference of logits and levels to torchvision's network."""
    with torch.device("meta"):
        theirs: Any = torchvision.models.get_model(name.replace("netv2", "net_v2"), weights=None)
    randomise(theirs, name)

    def outputs(images: Tensor) -> list[Tensor]:
        x, levels = images, {}
        for stage in theirs.features[:-1]:  # the last one is the head
            x = stage(x)
            levels[x.shape[-2]] = x  # a later stage of the same size takes the place
        return [levels[height] for height in sorted(levels, reverse=True)] + [theirs(images)]

    return _largest(_with_their_weights(name, theirs), outputs)


def against_official(name: str, folder: Path, case: str) -> float:
    """Return the largest relative difference to recorded outputs of the official code.

    Args:
        name: of the network, one of `OFFICIAL`.
        folder: with ``weights_ema.npz`` and a folder a case.
        case: name of the case's folder.
    """
    weights = read_weights(folder / "weights_ema.npz", TABLE[name])
    model = EfficientNet(weights.spec).eval()
    report = fill(model, weights)
    assert report.complete, report
    images = torch.from_numpy(np.load(folder / case / "input.npy")).permute(0, 3, 1, 2)
    with np.load(folder / case / "outputs_ema.npz") as recorded:
        wanted = [
            torch.from_numpy(recorded[f"reduction_{level}"]).permute(0, 3, 1, 2)
            for level in range(1, 6)
        ]
        wanted.append(torch.from_numpy(recorded["logits"]))
    return max(map(difference, _outputs(model, images), wanted))


def difference(x: Tensor, y: Tensor) -> float:
    """Return the largest difference of two tensors as a share of the second's largest value."""
    assert x.shape == y.shape, (x.shape, y.shape)
    assert y.isfinite().all()
    assert y.abs().max() > 0
    return ((x - y).abs().max() / y.abs().max()).item()


def randomise(model: nn.Module, name: str) -> None:
    """Give a network without memory weights, and norms that a mistake would show with."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    model.to_empty(device="cpu").eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.weight.data.uniform_(0.5, 1.5, generator=generator)
            layer.bias.data.normal_(std=0.2, generator=generator)
            layer.running_mean.normal_(std=0.2, generator=generator)
            layer.running_var.uniform_(0.5, 1.5, generator=generator)
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            layer.weight.data.normal_(std=layer.weight[0].numel() ** -0.5, generator=generator)
            if layer.bias is not None:
                layer.bias.data.normal_(std=0.2, generator=generator)


def _with_their_weights(name: str, theirs: nn.Module) -> EfficientNet:
    """Return our network with their weights, through a file and our loader."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "theirs.safetensors")
        save_file(theirs.state_dict(), path)
        weights = read_weights(path, TABLE[name])
    with torch.device("meta"):
        ours = EfficientNet(weights.spec)
    # Not `fill`, which copies: the largest network is there once.
    ours.load_state_dict(weights.tensors, assign=True)
    return ours.eval()


def _largest(ours: EfficientNet, outputs: Callable[[Tensor], Sequence[Tensor]]) -> float:
    worst = 0.0
    for size in SIZES:
        images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            wanted = outputs(images)
        found = _outputs(ours, images)
        assert len(found) == len(wanted) == 6
        worst = max(worst, *map(difference, found, wanted))
    return worst


def _outputs(model: EfficientNet, images: Tensor) -> list[Tensor]:
    with torch.inference_mode():
        return [*model.trunk(images).values(), model(images)]


def main() -> None:
    """Compare all networks and write what was found."""
    data = os.environ.get("COMPOUND_DATA")
    results = {}
    for name, spec in TABLE.items():
        with torch.device("meta"):
            cost = measure(
                EfficientNet(spec).eval(), torch.zeros(1, 3, spec.image_size, spec.image_size)
            )[""]
        row = {
            "image_size": spec.image_size,
            "parameters": cost.parameters,
            "macs": cost.macs,
            "timm": against_timm(name),
        }
        if name in TORCHVISION:
            row["torchvision"] = against_torchvision(name)
        if data and name in OFFICIAL:
            folder = Path(data, "expected/tf", name.replace("_", "-"))
            row["official"] = max(against_official(name, folder, case) for case in OFFICIAL[name])
        results[name] = row
        print(name, row, flush=True)
    results |= _detectors(data)
    path = ROOT / "benchmarks/results/parity.json"
    path.write_text(json.dumps(results, indent=2) + "\n")
    (ROOT / "docs/model_zoo.md").write_text(_table(results))


def _detectors(data: str | None) -> dict[str, dict[str, float]]:
    results = {}
    for name in detectors.DETECTORS:
        with torch.device("meta"):
            model = create_detector(name).eval()
            images = torch.zeros(1, 3, *model.image_size)
            cost, anchors = measure(model, images)[""], len(model.anchors(images))
        row = {
            "image_size": model.image_size[0],
            "parameters": cost.parameters,
            "macs": cost.macs,
            "anchors": anchors,
            "effdet": detectors.against_effdet(name),
        }
        if data and name in detectors.OFFICIAL:
            folder = Path(data, "expected/tf", name.replace("_", "-"))
            cases = detectors.OFFICIAL[name]
            row["official"] = max(detectors.against_official(name, folder, c) for c in cases)
        results[name] = row
        print(name, row, flush=True)
    return results


def _table(results: dict[str, dict[str, float]]) -> str:
    lines = [
        "# Model zoo",
        "",
        "Written by `uv run benchmarks/parity.py`. Parameters are trainable ones at 1000 classes;",
        "multiply-adds are those of convolutions and linear layers at the size given. The last",
        "columns are the largest differences of logits and feature levels to other projects'",
        "networks under the same random weights, as a share of the largest value.",
        "",
        "| network | size | parameters | multiply-adds | timm | torchvision | official code |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in TABLE:
        row = results[name]
        found = [f"{row[key]:.1e}" if key in row else "" for key in ("timm", "torchvision")]
        official = f"{row['official']:.1e}" if "official" in row else ""
        lines.append(
            f"| `{name}` | {row['image_size']} | {row['parameters']:,} | "
            f"{row['macs'] / 1e9:.3f} x 10^9 | {found[0]} | {found[1]} | {official} |"
        )
    lines += [
        "",
        "Detectors at 90 classes; differences are those of class logits and box codes of all",
        "levels, as a share of the largest deviation from their mean.",
        "",
        "| network | size | parameters | multiply-adds | anchors | effdet | official code |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in detectors.DETECTORS:
        row = results[name]
        official = f"{row['official']:.1e}" if "official" in row else ""
        lines.append(
            f"| `{name}` | {row['image_size']} | {row['parameters']:,} | "
            f"{row['macs'] / 1e9:.3f} x 10^9 | {row['anchors']:,} | {row['effdet']:.1e} | "
            f"{official} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()

"""What the machine allows: operations and bytes of D0 against its measured peaks.

``uv run benchmarks/roofline.py [--device cpu|cuda]`` measures how many operations a second a large
matrix product reaches, and how many bytes a second a large copy. A layer takes at least the longer
of the two; the sum over the layers is what no program goes far below without other arithmetic,
such as Winograd's, or keeping maps in caches between layers. It writes
``results/roofline_<device>.json`` and ``docs/roofline.md``, beside what ``speed.py`` has measured.
"""

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

# Before torch: as `speed.py` has it.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

import provenance
import torch
from torch import Tensor, nn

from efficientdet import create_model
from peers.side_by_side import interleaved

RESULTS = provenance.RESULTS
PAGE = provenance.ROOT / "docs/roofline.md"
SIZE = 512
ROUNDS = 10
SIDE, COPIED = 4096, 2**27  # of the matrices; numbers that are copied
# Passes over the output of a batch norm with its activation: two reads and a write forward; the
# gradient and the input twice and a write backward.
NORM_PASSES = 8


@dataclass(frozen=True, slots=True)
class Work:
    """Of one layer: operations (two a multiply-add) and bytes that go through memory."""

    operations: float
    bytes: float


@dataclass(frozen=True, slots=True)
class Limit:
    """The least time of one case.

    Attributes:
        what: the case.
        operations: of all layers.
        bytes: of all layers.
        milliseconds: sum over the layers of the longer of the two times.
        reached: milliseconds that `speed.py` measured, if it did.
    """

    what: str
    operations: float
    bytes: float
    milliseconds: float
    reached: float | None


def main() -> None:
    """Measure, keep the result, write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    device = parser.parse_args().device
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    rate, bandwidth = _peaks(device, dtype)
    limits = []
    for what, batch, train, (file, row) in (
        ("prediction, one picture", 1, False, ("prediction", "D0, random scores: prediction")),
        ("network alone, one picture", 1, False, ("prediction", "D0, random scores: network")),
        ("training step, four pictures", 4, True, ("training_step", "8 objects")),
    ):
        layers = [*_layers(batch, dtype.itemsize, train=train)]
        if what.startswith("prediction"):
            layers.append(_reading_of_logits(dtype.itemsize))
        limits.append(
            Limit(
                what,
                sum(work.operations for work in layers),
                sum(work.bytes for work in layers),
                1000 * sum(max(w.operations / rate, w.bytes / bandwidth) for w in layers),
                _reached(f"speed_{file}_{device}.json", row),
            )
        )
    found = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "operations_per_second": rate,
        "bytes_per_second": bandwidth,
        "limits": [asdict(limit) for limit in limits],
    }
    told = {"roofline": f"uv run benchmarks/roofline.py --device {device}"}
    provenance.keep(RESULTS / f"roofline_{device}.json", told, found)
    PAGE.write_text(_page())


def _peaks(device: str, dtype: torch.dtype) -> tuple[float, float]:
    """Return operations and bytes a second, each the best of several tries."""
    left, right = (torch.randn(SIDE, SIDE, device=device, dtype=dtype) for _ in range(2))
    source = torch.randn(COPIED, device=device)
    target = torch.empty_like(source)
    ways = {"product": lambda: left @ right, "copy": lambda: target.copy_(source)}
    times = interleaved(ways, rounds=ROUNDS, device=device)
    product, copy = (min(times[name]) / 1000 for name in ways)
    return 2 * SIDE**3 / product, 2 * source.nbytes / copy


def _layers(batch: int, itemsize: int, *, train: bool) -> Iterator[Work]:
    """Yield what every layer does; nothing is computed.

    In evaluation norms are folded and activations fused; in training the gradients of a
    convolution's input and weights cost as much as its output, each; the pictures have none.
    """
    with torch.device("meta"):
        model: nn.Module = create_model("efficientdet_d0").train()
        images = torch.empty(batch, 3, SIZE, SIZE)
    with _calls(model) as calls, torch.no_grad():
        model(images)
    for layer, x, out in calls:
        if isinstance(layer, nn.Conv2d):
            times = 1 if not train else 2 if x is images else 3
            operations = 2 * out.numel() * layer.weight[0].numel()
            moved = x.numel() + out.numel() + layer.weight.numel()
            yield Work(times * operations, times * moved * itemsize)
        elif train:
            yield Work(0, NORM_PASSES * out.numel() * itemsize)


@contextmanager
def _calls(model: nn.Module) -> Iterator[list[tuple[nn.Module, Tensor, Tensor]]]:
    """Collect convolutions and norms with their inputs and outputs while the model runs."""
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []

    def note(layer: nn.Module, inputs: Any, output: Any) -> None:
        calls.append((layer, inputs[0], output))

    handles = [
        layer.register_forward_hook(note)
        for layer in model.modules()
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)
    ]
    yield calls
    for handle in handles:
        handle.remove()


def _reading_of_logits(itemsize: int) -> Work:
    with torch.device("meta"):
        model: Any = create_model("efficientdet_d0")
        class_logits, _ = model(torch.empty(1, 3, SIZE, SIZE))
    return Work(0, sum(level.numel() for level in class_logits) * itemsize)


def _reached(file: str, row: str) -> float | None:
    """Return the least milliseconds of ours among the rows that are named so."""
    if not (RESULTS / file).is_file():
        return None
    rows = json.loads((RESULTS / file).read_text())["rows"]
    return min((one["ours"] for one in rows if row in one["what"]), default=None)


def _page() -> str:
    parts = [
        "# What the machine allows", "",
        "Written by `benchmarks/roofline.py`: operations and bytes of D0 at 512 x 512, against the "
        "rates that a matrix product and a copy reach here. The limit is the sum over all "
        "convolutions (and norms, in training) of the longer of the two times; it takes maps to go "
        "through memory between layers, which a cache can save, and arithmetic to be plain.", "",
    ]  # fmt: skip
    for file in sorted(RESULTS.glob("roofline_*.json")):
        result = json.loads(file.read_text())
        parts += [
            f"`{result['roofline']}`, {result['device']}, {result['machine']}, torch "
            f"{result['versions']['torch']}: {result['operations_per_second'] / 1e9:.0f} billion "
            f"operations and {result['bytes_per_second'] / 1e9:.1f} GB a second; "
            f"[result](../benchmarks/results/{file.name})", "",
            *provenance.table(
                ("what", "operations, billion", "GB", "limit, ms", "reached, ms", "of the limit"),
                map(_cells, result["limits"]),
            ), "",
        ]  # fmt: skip
    return "\n".join(parts)


def _cells(limit: dict[str, Any]) -> tuple[str, ...]:
    reached = limit["reached"]
    known = "" if reached is None else f"{reached:.3g}"
    times = "" if reached is None else f"{reached / limit['milliseconds']:.1f}x"
    return (
        limit["what"], f"{limit['operations'] / 1e9:.1f}", f"{limit['bytes'] / 1e9:.2f}",
        f"{limit['milliseconds']:.3g}", known, times,
    )  # fmt: skip


if __name__ == "__main__":
    main()

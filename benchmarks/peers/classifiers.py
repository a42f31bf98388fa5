"""Classifiers: training step and inference of EfficientNet-B0 and EfficientNetV2-S.

Same batches, AdamW, channels-last, against timm's ``tf_efficientnet_b0`` and
``tf_efficientnetv2_s``; on a GPU in bfloat16 and against timm compiled as well.
"""

from collections.abc import Callable, Iterator
from typing import Any

import timm
import torch
import torch.nn.functional as F

import backbone
import efficientnetv2
from peers.side_by_side import Row, compared, interleaved

# Our maker, timm's name, size in training, pictures of a batch on a CPU and on a GPU.
CASES = (
    (backbone, "efficientnet_b0", "tf_efficientnet_b0", 224, 16, 128),
    (efficientnetv2, "efficientnetv2_s", "tf_efficientnetv2_s", 300, 4, 64),
    (backbone, "efficientnet_b4", "tf_efficientnet_b4", 380, 0, 64),  # on a GPU alone
)


def measure(device: str) -> Iterator[Row]:
    """Yield rows of every case."""
    for package, name, peer, size, on_cpu, on_gpu in CASES:
        batch = on_cpu if device == "cpu" else on_gpu
        if not batch:
            continue
        images = torch.randn(batch, 3, size, size).to(device, memory_format=torch.channels_last)
        labels = torch.randint(1000, (batch,), device=device)
        models: dict[str, Any] = {
            "ours": package.create_model(name),
            "timm": timm.create_model(peer, drop_path_rate=0.2),
        }
        if device == "cuda":
            compiled: Any = timm.create_model(peer, drop_path_rate=0.2)
            compiled.compile()
            ours: Any = package.create_model(name)
            ours.compile()
            models |= {"ours, compiled": ours, "timm, compiled": compiled}
        pairs = [("ours", "timm")]
        if device == "cuda":
            pairs.append(("ours, compiled", "timm, compiled"))
        for model in models.values():
            model.train().to(device, memory_format=torch.channels_last)
        steps = {key: _step(model, images, labels, device) for key, model in models.items()}
        yield from _rows(f"{name} {size}, training step of {batch}", steps, pairs, device)
        for model in models.values():
            model.eval()
        runs = {key: _inference(model, images, device) for key, model in models.items()}
        yield from _rows(f"{name} {size}, inference of {batch}", runs, pairs, device)


def _rows(
    what: str,
    ways: dict[str, Callable[[], None]],
    pairs: list[tuple[str, str]],
    device: str,
) -> Iterator[Row]:
    times = interleaved(ways, rounds=10, warmup=3, device=device)
    for ours, theirs in pairs:
        note = ours.removeprefix("ours")
        yield compared(times, ours, theirs, what=what + note, against=theirs, asked=1.0)


def _step(model: Any, images: Any, labels: Any, device: str) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _inference(model: Any, images: Any, device: str) -> Callable[[], None]:
    def run() -> None:
        with (
            torch.inference_mode(),
            torch.autocast(device, torch.bfloat16, enabled=device == "cuda"),
        ):
            model(images)

    return run

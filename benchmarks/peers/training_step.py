"""A training step of D0 at 512 x 512, four pictures.

Forward, matching, loss, backward and SGD with momentum, channels-last, against effdet's
`DetBenchTrain` with its labeler, as it comes (``jit_loss`` is off). Parts of the labeler are
TorchScript, which begins anew whenever the number of objects changes; its best case has the same
number in every picture, the real one has not. The last rows are of processes of their own, in
turns; memory is what network, batches and steps take at their peak. On a CPU ``tools/train.py``
lets its process keep the memory that it frees, which takes less time and more memory (`kept`).
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import effdet
import torch
from effdet.config import get_efficientdet_config
from torch import Tensor

from compound.profiling.memory import Peak, keep_memory
from efficientdet import create_model
from efficientdet.loss import detection_loss
from efficientdet.matcher import assign
from peers.side_by_side import Row, compared, interleaved, random_boxes

# Ours, ours in a process that keeps its memory, the peer's.
WAYS = ("ours", "kept", "effdet")

Step = Callable[[], None]
Batch = tuple[Tensor, list[Tensor], list[Tensor]]


@dataclass(frozen=True, slots=True)
class Case:
    """What is learnt from: side of the pictures, how many a step, objects in each, classes.

    Where they are varied, pictures have up to five objects more.
    """

    size: int = 512
    batch: int = 4
    boxes: int = 8
    classes: int = 90
    varied: bool = False


def measure(device: str) -> Iterator[Row]:
    """Yield rows of time and of memory."""
    for case in (Case(), Case(varied=True)):
        batches = draw(case, device)
        times = interleaved(
            {"ours": our_step(batches, case, device), "effdet": effdet_step(batches, case, device)},
            rounds=5,
            device=device,
        )
        what = "8 to 13 objects a picture" if case.varied else "8 objects a picture"
        yield compared(times, "ours", "effdet", what=what, against="DetBenchTrain", asked=1.6)
    turns = [{way: alone(way, Case(), device) for way in WAYS} for _ in range(3)]
    for key, unit, way, what, asked in (
        ("ms", "ms", "kept", "8 objects a picture, memory kept", None),
        ("gib", "GiB", "ours", "peak memory", 1 / 0.6),
        ("gib", "GiB", "kept", "peak memory, kept", None),
    ):
        measured = {name: [turn[name][key] for turn in turns] for name in (way, "effdet")}
        yield compared(
            measured, way, "effdet", what=what, against="DetBenchTrain", unit=unit, asked=asked
        )
    if device == "cuda":
        yield from _largest()


def _largest() -> Iterator[Row]:
    """Yield how many pictures of 1536 x 1536 a second D7x learns from, eight at a time."""
    model: Any = create_model("efficientdet_d7x").train()
    model.to("cuda", memory_format=torch.channels_last)
    model.recompute(("backbone", "bifpn", "heads"))
    step = _step_of(model, draw(Case(size=1536, batch=8), "cuda"), "cuda")
    times = interleaved({"ours": step}, rounds=5, device="cuda")["ours"]
    rate = 8000 / median(times)
    yield Row(
        "D7x, 1536 x 1536, batch of 8, recomputed", "that it fits", "img/s", rate, rate,
        larger_is_better=True,
    )  # fmt: skip


def draw(case: Case, device: str) -> list[Batch]:
    """Return batches that take turns: pictures, boxes, labels."""
    generator = torch.Generator().manual_seed(0)
    batches = []
    for turn in range(4):
        images = torch.randn(case.batch, 3, case.size, case.size, generator=generator)
        boxes, labels = [], []
        for i in range(case.batch):
            count = case.boxes + ((3 * turn + i) % 6 if case.varied else 0)
            drawn = random_boxes(count, case.size, generator, smallest=case.size / 32)
            boxes.append(drawn.to(device))
            labels.append(torch.randint(case.classes, (count,), generator=generator).to(device))
        images = images.to(device, memory_format=torch.channels_last)
        batches.append((images, boxes, labels))
    return batches


def our_step(batches: list[Batch], case: Case, device: str) -> Step:
    """Return what does one step after the other."""
    model: Any = create_model("efficientdet_d0", num_classes=case.classes).train()
    model.to(device, memory_format=torch.channels_last)
    return _step_of(model, batches, device)


def _step_of(model: Any, batches: list[Batch], device: str) -> Step:
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    turns = _forever(batches)

    def step() -> None:
        images, boxes, labels = next(turns)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            class_logits, box_codes = model(images)
        targets = assign(model.anchors(images), boxes, labels)
        loss = detection_loss(class_logits, box_codes, targets).total
        del class_logits, box_codes  # as a module's `training_step` leaves them behind
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def effdet_step(batches: list[Batch], case: Case, device: str) -> Step:
    """Return what does one step after the other with effdet."""
    config: Any = get_efficientdet_config("tf_efficientdet_d0")
    config.image_size = (case.size, case.size)
    config.num_classes = case.classes
    model: Any = effdet.DetBenchTrain(effdet.EfficientDet(config, pretrained_backbone=False))
    model.train().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    turns = _forever(batches)

    def step() -> None:
        images, boxes, labels = next(turns)
        target = {
            "bbox": [b[:, [1, 0, 3, 2]] for b in boxes],
            "cls": [label + 1 for label in labels],
        }
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            model(images, target)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _forever(batches: list[Batch]) -> Iterator[Batch]:
    while True:
        yield from batches


def alone(way: str, case: Case, device: str) -> dict[str, float]:
    """Return what `report` prints in a process of its own."""
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); from peers import training_step as it; "
        "it.report(sys.argv[2], it.Case(**json.loads(sys.argv[3])), sys.argv[4])"
    )
    folder = str(Path(__file__).parent.parent)
    command = [sys.executable, "-c", code, folder, way, json.dumps(asdict(case)), device]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def report(way: str, case: Case, device: str) -> None:
    """Print the milliseconds of a step, and the gibibytes that all takes at its peak."""
    if way == "kept":
        keep_memory()
    peak = Peak(device)
    make = effdet_step if way == "effdet" else our_step
    step = make(draw(case, device), case, device)
    times = interleaved({way: step}, rounds=4, warmup=2, device=device)[way]
    print(json.dumps({"ms": median(times), "gib": peak.gibibytes()}))

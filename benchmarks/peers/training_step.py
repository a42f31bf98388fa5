"""A training step of D0 at 512 x 512, four pictures.

Forward, matching, loss, backward and SGD with momentum, channels-last, against effdet's
`DetBenchTrain` with its labeler, as it comes (``jit_loss`` is off). Parts of the labeler are
TorchScript, which begins anew whenever the number of objects changes; its best case has the same
number in every picture, the real one has not. On a CPU ``tools/train.py`` lets the process keep the
memory that it frees, which effdet's script does not: a last row has both as they are run, in
processes of their own, in turns. Memory is what a step takes at its peak, over what was there
before, in processes of their own too.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import effdet
import torch
from effdet.config import get_efficientdet_config
from torch import Tensor

from backbone.timing.memory import keep_memory
from efficientdet import create_model
from efficientdet.loss import detection_loss
from efficientdet.matcher import assign
from peers.side_by_side import Row, compared, interleaved

SIZE, BATCH, NUM_CLASSES = 512, 4, 90
STATUS = Path("/proc/self/status")
Step = Callable[[], None]


def measure(device: str) -> Iterator[Row]:
    """Yield rows of time and of memory."""
    for varied in (False, True):
        batches = _batches(varied=varied, device=device)
        times = interleaved(
            {"ours": our_step(batches, device), "effdet": effdet_step(batches, device)},
            rounds=6,
            device=device,
        )
        case = "5 to 12 objects a picture" if varied else "8 objects a picture"
        yield compared(
            times, "ours", "effdet", what=case, against="DetBenchTrain", asked=1.6,
        )  # fmt: skip
    ours, theirs = (_alone("peak", who, device) for who in ("ours", "effdet"))
    yield Row("peak memory of the step", "DetBenchTrain", "GiB", ours, theirs, asked=1 / 0.6)
    if device == "cpu":
        turns = [[_alone("pace", who, device) for who in ("ours", "effdet")] for _ in range(3)]
        ours, theirs = (list(column) for column in zip(*turns, strict=True))
        yield Row(
            "8 objects a picture, as tools/train.py runs it", "DetBenchTrain, as its script does",
            "ms", median(ours), median(theirs), all_ours=ours, all_theirs=theirs,
        )  # fmt: skip
    if device == "cuda":
        yield from _largest()


def _largest() -> Iterator[Row]:
    """Yield how many pictures of 1536 x 1536 a second D7x learns from, eight at a time."""
    model: Any = create_model("efficientdet_d7x").train()
    model.to("cuda", memory_format=torch.channels_last)
    model.recompute(("backbone", "bifpn", "heads"))
    step = _step_of(model, _batches(varied=False, device="cuda", batch=8, size=1536), "cuda")
    times = interleaved({"ours": step}, rounds=5, device="cuda")["ours"]
    rate = 8000 / median(times)
    yield Row(
        "D7x, 1536 x 1536, batch of 8, recomputed", "that it fits", "img/s", rate, rate,
        larger_is_better=True,
    )  # fmt: skip


Batch = tuple[Tensor, list[Tensor], list[Tensor]]


def _batches(*, varied: bool, device: str, batch: int = BATCH, size: int = SIZE) -> list[Batch]:
    """Return batches that take turns: pictures, boxes, labels."""
    generator = torch.Generator().manual_seed(0)
    batches = []
    for turn in range(4):
        images = torch.randn(batch, 3, size, size, generator=generator)
        boxes, labels = [], []
        for i in range(batch):
            count = 5 + (3 * turn + i) % 8 if varied else 8
            sides = 16 * 2 ** (4 * torch.rand(count, 2, generator=generator))
            corner = torch.rand(count, 2, generator=generator) * (size - sides)
            boxes.append(torch.cat([corner, corner + sides], 1).to(device))
            labels.append(torch.randint(NUM_CLASSES, (count,), generator=generator).to(device))
        images = images.to(device, memory_format=torch.channels_last)
        batches.append((images, boxes, labels))
    return batches


def our_step(batches: list[Batch], device: str) -> Step:
    """Return what does one step after the other."""
    model: Any = create_model("efficientdet_d0").train()
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
        detection_loss(class_logits, box_codes, targets).total.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def effdet_step(batches: list[Batch], device: str) -> Step:
    """Return what does one step after the other with effdet."""
    config: Any = get_efficientdet_config("tf_efficientdet_d0")
    config.image_size = (SIZE, SIZE)
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


def _alone(measurement: str, who: str, device: str) -> float:
    """Return what `peak` or `pace` prints in a process of its own."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from peers import training_step; "
        "getattr(training_step, sys.argv[2])(*sys.argv[3:])"
    )
    folder = str(Path(__file__).parent.parent)
    command = [sys.executable, "-c", code, folder, measurement, who, device]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def peak(who: str, device: str) -> None:
    """Print the gibibytes that the third step takes at its peak."""
    batches = _batches(varied=False, device=device)
    step = (our_step if who == "ours" else effdet_step)(batches, device)
    before = _held("VmRSS")
    allocated = torch.cuda.memory_allocated() if device == "cuda" else 0
    for _ in range(3):
        step()
    used = (_held("VmHWM") - before) / 2**20
    if device == "cuda":
        used = (torch.cuda.max_memory_allocated() - allocated) / 2**30
    print(json.dumps(used))


def pace(who: str, device: str) -> None:
    """Print the milliseconds of a step, the process set up as a training sets it up."""
    if who == "ours":
        keep_memory()
    batches = _batches(varied=False, device=device)
    step = (our_step if who == "ours" else effdet_step)(batches, device)
    print(json.dumps(median(interleaved({who: step}, rounds=5, device=device)[who])))


def _held(key: str) -> int:
    """Return kibibytes."""
    lines = STATUS.read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])

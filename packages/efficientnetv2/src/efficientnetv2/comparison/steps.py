"""One network at one size: the time and the memory of its training steps, or of inference.

A step is what ``tools/train.py`` does with a batch: it goes to the device, is normalised and learnt
from with RMSProp. Mixing, the average of the weights and logging are left out.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from itertools import pairwise
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from timm.optim.rmsprop_tf import RMSpropTF
from torch import Tensor

from backbone.efficientnet import EfficientNet
from backbone.train.optim import OptimRecipe
from efficientnetv2.comparison import memory
from efficientnetv2.comparison.jobs import StepJob, StepTimes

NUM_CLASSES = 1000
LABEL_SMOOTHING = 0.1


def measure_steps(job: StepJob) -> StepTimes:
    """Return the cost of training steps; it limits this process, so give it one of its own."""
    with _peak(job) as used:
        model, images, labels = _prepared(job)
        recipe = OptimRecipe(
            partial(RMSpropTF, alpha=0.9, momentum=0.9, eps=1e-3),
            lr=0.016,
            base_batch_size=256,
            weight_decay=1e-5,
            warmup_epochs=5,
            decay_biases=job.decay_biases,
        )
        optimizer = recipe.build(model, batch_size=job.batch_size)
        scaler = torch.amp.GradScaler(job.device, enabled=job.precision == "16-mixed")
        clocks = []
        for _ in range(job.warmup + job.steps):
            clock = _Clock(job.device)
            loss = F.cross_entropy(
                _logits(job, model, images), labels, label_smoothing=LABEL_SMOOTHING
            )
            clock.lap()
            scaler.scale(loss).backward()
            clock.lap()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            clock.lap()
            clocks.append(clock)
        counted = [clock.seconds() for clock in clocks[job.warmup :]]
        peak = used()
    forward, backward, update = (median(phase) for phase in zip(*counted, strict=True))
    return StepTimes(forward, backward, update, median(map(sum, counted)), peak)


def measure_inference(job: StepJob) -> float:
    """Return pictures a second."""
    with _peak(job), torch.inference_mode():
        model, images, _ = _prepared(job)
        model.eval()
        clocks = []
        for _ in range(job.warmup + job.steps):
            clock = _Clock(job.device)
            _logits(job, model, images)
            clock.lap()
            clocks.append(clock)
        seconds = [clock.seconds()[0] for clock in clocks[job.warmup :]]
    return job.batch_size / median(seconds)


@contextmanager
def _peak(job: StepJob) -> Iterator[Callable[[], float]]:
    """Apply the limit; give a function that returns the gibibytes at the peak."""
    before = memory.resident()
    if job.memory_limit is not None:
        if job.device == "cuda":
            whole = torch.cuda.get_device_properties(0).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, job.memory_limit * 2**30 / whole))
        else:
            memory.limit_data(job.memory_limit)

    def used() -> float:
        if job.device == "cuda":
            return torch.cuda.max_memory_allocated() / 2**30
        return (memory.peak_resident() - before) / 2**30

    yield used


def _prepared(job: StepJob) -> tuple[EfficientNet, Tensor, Tensor]:
    """Return the network on the device, and a batch with its labels where a loader leaves them."""
    torch.manual_seed(0)
    package = "efficientnetv2" if job.model.startswith("efficientnetv2") else "backbone"
    model: EfficientNet = import_module(package).create_model(
        job.model, num_classes=NUM_CLASSES, dropout=job.dropout
    )
    model.train().to(job.device)
    shape = (job.batch_size, 3, job.size, job.size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    if job.channels_last:
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        images = images.to(memory_format=torch.channels_last)
    labels = torch.randint(0, NUM_CLASSES, (job.batch_size,), device=job.device)
    return model, images.pin_memory() if job.device == "cuda" else images, labels


def _logits(job: StepJob, model: EfficientNet, images: Tensor) -> Tensor:
    dtype = torch.float16 if job.precision == "16-mixed" else torch.bfloat16
    with torch.autocast(job.device, dtype, enabled=job.precision != "32-true"):
        logits = model(model.normalize(images.to(job.device, non_blocking=True)))
    return logits.float()


class _Clock:
    """Time between laps; a GPU's by its own clock, so that asking does not hold it up."""

    def __init__(self, device: str) -> None:
        self.cuda = device == "cuda"
        self.marks: list[Any] = []
        self.lap()

    def lap(self) -> None:
        """Note the time."""
        mark: Any = time.perf_counter()
        if self.cuda:
            mark = torch.cuda.Event(enable_timing=True)
            mark.record()
        self.marks.append(mark)

    def seconds(self) -> list[float]:
        """Wait for the device; return the time of every lap."""
        if self.cuda:
            torch.cuda.synchronize()
            return [a.elapsed_time(b) / 1000 for a, b in pairwise(self.marks)]
        return [b - a for a, b in pairwise(self.marks)]

"""What steps of training and inference take, part by part.

A step is what ``tools/train.py`` does with a batch, whatever the task; the average of the weights,
logging and validation are left out.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from compound.profiling.loading import Loader
from compound.profiling.machine import autocast
from compound.profiling.memory import Peak
from compound.profiling.settings import Settings

if TYPE_CHECKING:
    from compound.training.task_module import TaskModule

TRAINING = ("to device", "forward", "loss", "backward", "optimizer")
INFERENCE = ("to device", "forward", "post-processing")


class Stopwatch:
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


@dataclass(frozen=True, slots=True)
class Timed:
    """What a step takes.

    Attributes:
        batch_size: its pictures.
        image_size: their height and width.
        parts: median seconds of each part, in order.
        median: median seconds of all.
        p90: seconds that nine of ten steps stay below.
        peak_gib: gibibytes at the peak, see `Peak`.
    """

    batch_size: int
    image_size: tuple[int, int]
    parts: dict[str, float]
    median: float
    p90: float
    peak_gib: float

    @property
    def images_per_second(self) -> float:
        """Return the rate."""
        return self.batch_size / self.median


class Training:
    """Steps of a training."""

    def __init__(self, module: "TaskModule", settings: Settings, *, batch_size: int) -> None:
        self.module = module
        self.settings = settings
        self.frozen = [layer for layer in module.model.modules() if not layer.training]
        self.optimizer = module.optim.build(module.model, batch_size=batch_size)
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0  # takes the same time, and the weights stay sound
        self.scaler = torch.amp.GradScaler(
            settings.device, enabled=settings.precision == "16-mixed"
        )

    def measure(self, batches: Sequence[Any], peak: Peak) -> Timed:
        """Return what steps take whose batches are there already."""
        self._begin()
        peak.begin_anew()
        count = self.settings.warmup + self.settings.rounds
        watches = [self._step(batch) for batch in islice(cycle(batches), count)]
        return _timed(TRAINING, watches[self.settings.warmup :], batches[0].images, peak)

    def measure_together(self, loader: Loader) -> float:
        """Return the pictures a second of loader and steps at once, as in a training."""
        self._begin()
        # What the workers have ready from before counts for nothing.
        for batch in islice(loader.batches, max(1, 2 * loader.num_workers)):
            self._step(batch)
        _wait(self.settings.device)
        began, pictures = time.perf_counter(), 0
        for batch in islice(loader.batches, loader.counted(self.settings.rounds)):
            self._step(batch)
            pictures += len(batch.images)
        _wait(self.settings.device)
        return pictures / (time.perf_counter() - began)

    def _begin(self) -> None:
        """Be in training, but for the norms that are frozen."""
        self.module.train()
        for layer in self.frozen:
            layer.train(False)

    def _step(self, batch: Any) -> Stopwatch:
        module, device = self.module, self.settings.device
        watch = Stopwatch(device)
        batch = module.transfer_batch_to_device(batch, torch.device(device), 0)
        watch.lap()
        with autocast(device, self.settings.precision):
            outputs, targets = module.train_outputs(batch)
            watch.lap()
            loss = module.losses(outputs, targets)["loss"]
        watch.lap()
        self.scaler.scale(loss).backward()
        watch.lap()
        if self.settings.clip:
            self.scaler.unscale_(self.optimizer)
            module.clip(self.settings.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        watch.lap()
        return watch


@torch.no_grad()
def measure_inference(
    module: "TaskModule", images: Tensor, settings: Settings, peak: Peak
) -> Timed:
    """Return what it takes from pictures on the host to what a user asks for.

    Args:
        module: with its weights; it is left in evaluation.
        images: ``(B, C, H, W)`` uint8.
        settings: how to measure.
        peak: begins anew here.
    """
    module.train(False)
    peak.begin_anew()
    watches = []
    for _ in range(settings.warmup + settings.rounds):
        _wait(settings.device)  # each alone, as latency is asked for
        watch = Stopwatch(settings.device)
        seen = images.to(settings.device, non_blocking=True)
        watch.lap()
        with autocast(settings.device, settings.precision):
            outputs = module(seen)
        watch.lap()
        module.postprocess(outputs, seen)
        watch.lap()
        watches.append(watch)
    return _timed(INFERENCE, watches[settings.warmup :], images, peak)


def _timed(names: Sequence[str], watches: Sequence[Stopwatch], images: Tensor, peak: Peak) -> Timed:
    seconds = np.array([watch.seconds() for watch in watches])
    height, width = images.shape[-2:]
    return Timed(
        batch_size=len(images),
        image_size=(height, width),
        parts=dict(zip(names, np.median(seconds, 0).tolist(), strict=True)),
        median=float(np.median(seconds.sum(1))),
        p90=float(np.percentile(seconds.sum(1), 90)),
        peak_gib=peak.gibibytes(),
    )


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()

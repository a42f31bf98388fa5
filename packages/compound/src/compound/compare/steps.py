"""One network at one size: the time and the memory of its training steps, or of inference.

A step is what ``tools/train.py`` does with a batch: it goes to the device, is normalised and learnt
from with RMSProp. Mixing, the average of the weights and logging are left out.
"""

from functools import partial
from importlib import import_module
from statistics import median

import torch
import torch.nn.functional as F
from timm.optim.rmsprop_tf import RMSpropTF
from torch import Tensor

from backbone.efficientnet import EfficientNet
from compound.compare.jobs import StepJob, StepTimes
from compound.profiling import memory
from compound.profiling.machine import autocast
from compound.profiling.stopwatch import Stopwatch
from compound.training.optim import OptimRecipe

NUM_CLASSES = 1000
LABEL_SMOOTHING = 0.1


def measure_steps(job: StepJob) -> StepTimes:
    """Return the cost of training steps; it limits this process, so give it one of its own."""
    peak = _limited(job)
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
        clock = Stopwatch(job.device)
        loss = F.cross_entropy(_logits(job, model, images), labels, label_smoothing=LABEL_SMOOTHING)
        clock.lap()
        scaler.scale(loss).backward()
        clock.lap()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        clock.lap()
        clocks.append(clock)
    counted = [clock.seconds() for clock in clocks[job.warmup :]]
    forward, backward, update = (median(phase) for phase in zip(*counted, strict=True))
    return StepTimes(forward, backward, update, median(map(sum, counted)), peak.gibibytes())


def measure_inference(job: StepJob) -> float:
    """Return pictures a second."""
    _limited(job)
    with torch.inference_mode():
        model, images, _ = _prepared(job)
        model.eval()
        clocks = []
        for _ in range(job.warmup + job.steps):
            clock = Stopwatch(job.device)
            _logits(job, model, images)
            clock.lap()
            clocks.append(clock)
        seconds = [clock.seconds()[0] for clock in clocks[job.warmup :]]
    return job.batch_size / median(seconds)


def _limited(job: StepJob) -> memory.Peak:
    """Apply the limit; return the peak from here on."""
    if job.memory_limit is not None:
        if job.device == "cuda":
            whole = torch.cuda.get_device_properties(0).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, job.memory_limit * 2**30 / whole))
        else:
            memory.limit_data(job.memory_limit)
    memory.keep_memory()
    return memory.Peak(job.device)


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
    with autocast(job.device, job.precision):
        logits = model(model.normalize(images.to(job.device, non_blocking=True)))
    return logits.float()

"""What is measured in a process of its own, and what comes of it: plain values, sent as JSON."""

from dataclasses import dataclass

from backbone.specs import Interpolation


@dataclass(frozen=True, slots=True)
class StepJob:
    """What to measure.

    Attributes:
        model: published name of the network.
        size: side of the pictures in pixels.
        batch_size: pictures of a step.
        dropout: before the classifier.
        decay_biases: as V1's recipe does and V2's does not.
        device: ``cpu`` or ``cuda``.
        precision: ``32-true``, ``bf16-mixed`` or ``16-mixed``.
        channels_last: how tensors are laid out.
        warmup: steps that are not counted.
        steps: steps that are.
        memory_limit: gibibytes that may be taken; None for all there is.
        learns: whether it trains; else it only infers.
    """

    model: str
    size: int
    batch_size: int
    dropout: float
    decay_biases: bool
    device: str
    precision: str
    channels_last: bool
    warmup: int
    steps: int
    memory_limit: float | None
    learns: bool = True


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Median seconds of a step and of its phases, and the gibibytes at its peak.

    On a GPU the peak of PyTorch's allocator; on a CPU the peak resident size less what was there
    before the network.
    """

    forward: float
    backward: float
    optimizer: float
    step: float
    peak_gib: float

    def images_per_second(self, batch_size: int) -> float:
        """Return the rate on one device."""
        return batch_size / self.step


@dataclass(frozen=True, slots=True)
class LoaderJob:
    """What to measure: reading, cropping to ``size`` and augmenting, as ``tools/train.py`` does.

    Attributes:
        size: side of the pictures that it gives, in pixels.
        batch_size: pictures of a batch.
        policy: AutoAugment or RandAugment in timm's words.
        scale: range of the crop's area.
        interpolation: of the resizing.
        num_workers: worker processes; None takes half of the cores, 8 at most.
        batches: batches of each worker that are counted.
    """

    size: int
    batch_size: int
    policy: str
    scale: tuple[float, float]
    interpolation: Interpolation
    num_workers: int | None
    batches: int

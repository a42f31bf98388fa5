"""What is measured in a process of its own: a row's training steps, its inference, its loader."""

from dataclasses import dataclass
from pathlib import Path

import torch

from compound.compare.contest import find_contest
from compound.compare.rows import Row
from compound.profiling import memory
from compound.profiling.loading import measure_loader
from compound.profiling.settings import Settings
from compound.profiling.steps import Timed, Training, measure_inference


@dataclass(frozen=True, slots=True, kw_only=True)
class StepJob:
    """Measure steps of a row at one size.

    Attributes:
        contest: name of the entry point of `Contest`.
        row: what is measured.
        source: whose numbers the recipe takes.
        size: side of the images in pixels.
        settings: how to measure.
        channels_last: how tensors are laid out.
        memory_limit: gibibytes that may be taken; None for all there is.
        learns: whether the network is trained; else it only infers.
    """

    contest: str
    row: Row
    source: str
    size: int
    settings: Settings
    channels_last: bool
    memory_limit: float | None
    learns: bool = True

    @property
    def what(self) -> str:
        """Return the job in words."""
        kind = "training" if self.learns else "inference"
        return f"{kind} {self.row.batch_size} pictures of {self.size} px"

    def measure(self, _: Path) -> Timed:
        """Measure in this process, whose memory is limited from then on."""
        if self.memory_limit is not None:
            _limit_memory(self.memory_limit, self.settings.device)
        memory.keep_memory()
        peak = memory.Peak(self.settings.device)
        torch.manual_seed(0)
        contest = find_contest(self.contest)
        module = contest.module(self.row, self.source, channels_last=self.channels_last)
        module.to(self.settings.device)
        batch = contest.batch(self.row, self.size, channels_last=self.channels_last)
        if not self.learns:
            return measure_inference(module, batch.images, self.settings, peak)
        training = Training(module, self.settings, batch_size=self.row.batch_size)
        return training.measure([batch], peak)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderJob:
    """Measure a row's loader.

    Attributes:
        contest: name of the entry point of `Contest`.
        row: whose recipe it follows.
        source: whose numbers the recipe takes.
        size: side of the images in pixels.
        batch_size: images of a batch.
        num_workers: worker processes; None takes half of the cores, 8 at most.
        batches: batches of each worker that are counted.
    """

    contest: str
    row: Row
    source: str
    size: int
    batch_size: int
    num_workers: int | None
    batches: int

    @property
    def what(self) -> str:
        """Return the job in words."""
        return f"loading {self.batch_size} pictures of {self.size} px"

    def measure(self, folder: Path) -> float:
        """Return the images a second; ``folder`` gets the files that are read."""
        loader = find_contest(self.contest).loader(
            self.row,
            self.source,
            self.size,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            folder=folder,
        )
        rounds = self.batches * max(1, loader.num_workers)
        return measure_loader(loader, Settings(device="cpu", rounds=rounds)).images_per_second


Job = StepJob | LoaderJob


def _limit_memory(gibibytes: float, device: str) -> None:
    if device == "cuda":
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, gibibytes * 2**30 / whole))
    else:
        memory.limit_data(gibibytes)

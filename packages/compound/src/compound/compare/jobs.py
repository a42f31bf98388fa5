"""What is measured in a process of its own: a row's training steps, its inference, its loader."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from compound.compare.contest import Row, find_contest
from compound.errors import UserError, closest
from compound.profiling import memory
from compound.profiling.loading import measure_loader
from compound.profiling.settings import Settings, check_precision, check_whole
from compound.profiling.steps import Timed, Training, measure_inference

# Larger batches of a loader give no other rate, but take long to wait for.
MAX_LOADED = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputPlan:
    """How the rows are measured.

    Attributes:
        contest: name of the entry point of the rows' `Contest`.
        device: ``cpu`` or ``cuda``.
        precision: see `check_precision`.
        source: whose numbers the recipes take.
        rounds: how often each row has its turn.
        warmup: steps of each turn that are not counted.
        steps: steps that are, of which the median is taken.
        loader: whether the loader is measured too.
        loader_batches: batches of each worker that are counted.
        num_workers: the loader's; None takes half of the cores, 8 at most.
        channels_last: how tensors are laid out.
        memory_limit: gibibytes that a measurement may take; None for all there is.
    """

    contest: str
    device: str
    precision: str
    source: str
    rounds: int = 3
    warmup: int = 2
    steps: int = 5
    loader: bool = True
    loader_batches: int = 4
    num_workers: int | None = None
    channels_last: bool = True
    memory_limit: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        closest(self.device, ("cpu", "cuda"), what="device")
        check_precision(self.precision, self.device)
        check_whole(self, rounds=1, warmup=0, steps=1, loader_batches=1)
        workers = self.num_workers
        if workers is not None and (not isinstance(workers, int) or workers < 0):
            raise UserError(f"num_workers={workers}: expected 0 or more, or null")
        limit = self.memory_limit
        if limit is not None and (not isinstance(limit, int | float) or limit <= 0):
            raise UserError(f"memory_limit={limit}: expected gibibytes above 0, or null")


@dataclass(frozen=True, slots=True)
class Job:
    """Measure one thing of a row at one size.

    Attributes:
        kind: what is measured.
        row: of what.
        size: side of the images in pixels.
        plan: how.
    """

    kind: Literal["training", "inference", "loading"]
    row: Row
    size: int
    plan: ThroughputPlan

    @property
    def batch_size(self) -> int:
        """Return the images of a batch."""
        size = self.row.batch_size
        return min(size, MAX_LOADED) if self.kind == "loading" else size

    @property
    def what(self) -> str:
        """Return the job in words."""
        return f"{self.kind} {self.batch_size} pictures of {self.size} px"

    def measure(self, folder: Path) -> Any:
        """Measure in this process, whose memory is limited from then on.

        Args:
            folder: gets the files that a loader reads.

        Returns:
            Images a second of a loader; else a `Timed`.
        """
        return self._loader_rate(folder) if self.kind == "loading" else self._step()

    def _step(self) -> Timed:
        plan, contest = self.plan, find_contest(self.plan.contest)
        settings = Settings(
            device=plan.device, precision=plan.precision, rounds=plan.steps, warmup=plan.warmup
        )
        if plan.memory_limit is not None:
            _limit_memory(plan.memory_limit, plan.device)
        memory.keep_memory()
        peak = memory.Peak(plan.device)
        torch.manual_seed(0)
        module = contest.module(self.row, plan.source, channels_last=plan.channels_last)
        module.to(plan.device)
        batch = contest.batch(self.row, self.size, channels_last=plan.channels_last)
        if self.kind == "inference":
            return measure_inference(module, batch.images, settings, peak)
        return Training(module, settings, batch_size=self.row.batch_size).measure([batch], peak)

    def _loader_rate(self, folder: Path) -> float:
        loader = find_contest(self.plan.contest).loader(
            self.row,
            self.plan.source,
            self.size,
            batch_size=self.batch_size,
            num_workers=self.plan.num_workers,
            folder=folder,
        )
        rounds = self.plan.loader_batches * max(1, loader.num_workers)
        return measure_loader(loader, Settings(device="cpu", rounds=rounds)).images_per_second


def _limit_memory(gibibytes: float, device: str) -> None:
    if device == "cuda":
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, gibibytes * 2**30 / whole))
    else:
        memory.limit_data(gibibytes)

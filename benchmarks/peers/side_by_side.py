"""Measuring two or more ways of the same work in turns."""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one case.

    Attributes:
        what: the case, ours.
        against: the peer, and how it was set.
        unit: of both figures, such as ``ms``, ``GiB`` or ``img/s``.
        ours: median.
        theirs: median.
        asked: the ratio that is aimed at, if there is one.
        larger_is_better: as with pictures a second.
        all_ours: every measurement.
        all_theirs: every measurement.
    """

    what: str
    against: str
    unit: str
    ours: float
    theirs: float
    asked: float | None = None
    larger_is_better: bool = False
    all_ours: list[float] = field(default_factory=list)
    all_theirs: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """How many times better ours is."""
        return self.ours / self.theirs if self.larger_is_better else self.theirs / self.ours

    def __str__(self) -> str:
        """Return one line."""
        aim = "" if self.asked is None else f" (asked {self.asked:g})"
        return (
            f"{self.what}: {self.ours:.4g} {self.unit}, {self.against}: {self.theirs:.4g} "
            f"{self.unit}, ratio {self.ratio:.2f}{aim}"
        )


def interleaved(
    ways: Mapping[str, Callable[[], Any]],
    *,
    rounds: int = 10,
    warmup: int = 2,
    device: str = "cpu",
) -> dict[str, list[float]]:
    """Return the milliseconds of every call, A B A B, after a warm-up of each.

    Garbage is collected before each call, outside of its time.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(warmup + rounds):
        for name, way in ways.items():
            gc.collect()
            _wait(device)
            began = time.perf_counter()
            way()
            _wait(device)
            if turn >= warmup:
                times[name].append(1000 * (time.perf_counter() - began))
    return times


def random_boxes(
    count: int, size: int, generator: torch.Generator, *, smallest: float = 16
) -> torch.Tensor:
    """Return boxes ``(count, 4)`` whose sides are 1 to 16 times ``smallest``, in an image."""
    sides = smallest * 2 ** (4 * torch.rand(count, 2, generator=generator))
    corner = torch.rand(count, 2, generator=generator) * (size - sides)
    return torch.cat([corner, corner + sides], 1)


def compared(
    times: Mapping[str, list[float]],
    ours: str,
    theirs: str,
    *,
    what: str,
    against: str,
    unit: str = "ms",
    asked: float | None = None,
    larger_is_better: bool = False,
) -> Row:
    """Return the row of two of the ways that `interleaved` or another measured."""
    return Row(
        what, against, unit, median(times[ours]), median(times[theirs]), asked, larger_is_better,
        all_ours=times[ours], all_theirs=times[theirs],
    )  # fmt: skip


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()

"""Time between laps, on a CPU and on a GPU."""

import time
from itertools import pairwise
from typing import Any

import torch


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

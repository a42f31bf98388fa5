"""Measurements in processes of their own, and why one failed.

A process that runs out of memory takes nobody with it, and none finds what another has left behind.
"""

import os
import pickle
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from compound.compare.jobs import Job

_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "memoryerror",
    "std::bad_alloc",
)
# What the system's own guard of the memory sends.
_KILLED = -9
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no result, in one line."""

    reason: str


class Answer(NamedTuple):
    """How a job's process ended, what it wrote to stderr, and its result."""

    status: int
    said: str
    result: Any


class Nursery:
    """Where processes for measurements come from; see `__main__`. Use it in a ``with``.

    Args:
        contest: name of the entry point of the jobs' `Contest`.
    """

    def __init__(self, contest: str) -> None:
        self._contest = contest
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory()
        self._said = Path(self._folder.name) / "stderr"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._folder.cleanup()

    def measured(self, job: Job) -> Any | Failure:
        """Return what a job gives, or why it failed."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            pickle.dump(job, process.stdin)
            process.stdin.flush()
            answer = pickle.load(process.stdout)
        except (BrokenPipeError, EOFError):  # it went down itself
            self._stop()
            return failure(process.returncode, self._said.read_text(errors="replace"))
        return answer.result if answer.status == 0 else failure(answer.status, answer.said)

    def _start(self) -> subprocess.Popen[bytes]:
        with self._said.open("w") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", str(__package__), self._contest],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                # Whoever asks CUDA itself for its devices cannot be forked.
                env=os.environ | {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"},
            )
        return self._process

    def _stop(self) -> None:
        if self._process is not None:
            self._process.communicate()
            self._process = None


def failure(status: int, said: str) -> Failure:
    """Return why a process failed, from its exit status and what it said on stderr."""
    lowered = said.lower()
    if any(words in lowered for words in _OUT_OF_MEMORY):
        return Failure("out of memory")
    if status == _KILLED:
        return Failure("killed, probably for want of memory")
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = lines[-1].removeprefix("error: ") if lines else "it said nothing"
    return Failure(f"exit status {status}: {last[:_LONGEST]}")

"""Measurements in processes of their own, and why one failed.

A process that runs out of memory takes nobody with it, and none finds what another has left behind.
Each is a fork of a server that has imported what jobs need and does nothing itself: as fresh as a
new process, without the seconds that imports take.
"""

import multiprocessing
import os
import pickle
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compound.compare.contest import find_contest

if TYPE_CHECKING:
    from compound.compare.jobs import Job

_SERVER = multiprocessing.get_context("forkserver")
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


class Failure(Exception):
    """Why there is no result, in one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def measured(job: "Job") -> Any:
    """Return what a job gives in a process of its own.

    Raises:
        Failure: the process ended without a result.
    """
    contest = find_contest(job.plan.contest)
    _SERVER.set_forkserver_preload([type(job).__module__, type(contest).__module__])
    # Whoever asks CUDA itself for its devices cannot be forked.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        said, result = folder / "stderr", folder / "result.pickle"
        said.touch()
        process = _SERVER.Process(target=_work, args=(job, said, result))
        process.start()
        process.join()
        if process.exitcode:
            why = failure(process.exitcode, said.read_text(errors="replace"))
            raise Failure(f"{why.reason} in {job.what}")
        return pickle.loads(result.read_bytes())


def _work(job: "Job", said: Path, result: Path) -> None:
    """Do a job in its process, which ends here whatever happens."""
    status = 1
    try:
        # What native code says goes there too.
        stream = os.open(said, os.O_WRONLY)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        images = result.with_name("images")
        images.mkdir()
        result.write_bytes(pickle.dumps(job.measure(images)))
        status = 0
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(status)


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

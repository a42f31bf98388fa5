"""Memory of this process: what it holds, what it held at its peak, what it may hold, and keep."""

import ctypes
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch

from compound.errors import UserError

STATUS = Path("/proc/self/status")
MEMINFO = Path("/proc/meminfo")
# Control groups: which ones this process is in, and where they say their limits.
GROUP, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
# ru_maxrss counts kibibytes on Linux and bytes on macOS.
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
# Linux sets the mark back to what is resident now.
_MARK = Path("/proc/self/clear_refs")
_SET_BACK = "5"
# Parameters of glibc's `mallopt`, and what they are set to.
_MALLOC = {-1: 2**31 - 1, -2: 2**26, -4: 0}  # M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX


class Peak:
    """What a network takes at its peak, from now on.

    On a GPU the peak of PyTorch's allocator; on a CPU the peak resident size less what is there
    now, which is why it begins before the network. Where the network is there already, say how
    many bytes of the present ones are its own.
    """

    def __init__(self, device: str, *, own: int = 0) -> None:
        self._cuda = device == "cuda"
        self._before = resident() - own
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget the peak; where the system cannot (macOS), the largest so far stays."""
        if self._cuda:
            torch.cuda.init()
            torch.cuda.reset_peak_memory_stats()
        else:
            with suppress(OSError):
                _MARK.write_text(_SET_BACK)

    def gibibytes(self) -> float:
        """Return the peak."""
        used = torch.cuda.max_memory_allocated() if self._cuda else peak_resident() - self._before
        return used / 2**30


def resident() -> int:
    """Return the resident bytes; where the system does not tell, the peak so far."""
    return _status("VmRSS")


def peak_resident() -> int:
    """Return the largest resident bytes so far.

    Linux's own mark of this program, as ``ru_maxrss`` begins with the parent's at the time of the
    fork.
    """
    return _status("VmHWM")


def available() -> int | None:
    """Return the bytes that may still be taken: of the machine's and of every control group's.

    What files fill and could be given back counts as free. None where the system does not tell.
    """
    if not MEMINFO.is_file():
        return None
    return max(0, min([_kibibytes(MEMINFO, "MemAvailable"), *_left_in_groups()]))


def _left_in_groups() -> Iterator[int]:
    """Yield what is left of each limit, of version 2 and of version 1."""
    lines = GROUP.read_text().splitlines() if GROUP.is_file() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            top, names = GROUPS / "memory", ("limit_in_bytes", "usage_in_bytes", "total_inactive")
        elif not controllers:
            top, names = GROUPS, ("max", "current", "inactive")
        else:
            continue
        inner = top / path.lstrip("/")
        for folder in (inner, *inner.parents):
            # The groups above may be out of sight, and "max" is no number.
            with suppress(OSError, ValueError):
                limit, used = (int((folder / f"memory.{n}").read_text()) for n in names[:2])
                idle = re.search(rf"^{names[2]}_file (\d+)$", (folder / "memory.stat").read_text(),
                                 re.MULTILINE)  # fmt: skip
                yield limit - used + (int(idle[1]) if idle else 0)
            if folder == top:
                break


def keep_memory() -> None:
    """Let the process keep what it frees from now on, where the C library is glibc.

    It would give the large maps of a network back to the system after every step and have them
    again page by page. What was freed before, such as that of reading the data, is given back.
    Steps take less time, and the process more memory, as what is kept has gaps: how much of both
    `benchmarks/peers/training_step.py` measures.
    """
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        with suppress(AttributeError):  # another C library
            library.malloc_trim(0)
            for parameter, value in _MALLOC.items():
                library.mallopt(parameter, value)


def limit_data(gigabytes: float) -> None:
    """Let this process take so much more than it has; beyond it allocations fail.

    Raises:
        UserError: the system is not Linux.
    """
    if not STATUS.is_file():
        raise UserError("memory_limit: on a CPU it can be set on Linux only; leave it null")
    room = _status("VmData") + int(gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (room, room))


def _status(key: str) -> int:
    if STATUS.is_file():
        return _kibibytes(STATUS, key)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


def _kibibytes(path: Path, key: str) -> int:
    found = re.search(rf"^{key}:\s*(\d+) kB$", path.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024

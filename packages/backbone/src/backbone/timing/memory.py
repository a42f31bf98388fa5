"""Memory of this process: what it holds, what it held at its peak, what it may hold, and keep."""

import ctypes
import re
import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

from backbone.errors import UserError

STATUS = Path("/proc/self/status")
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
    return _status("VmRSS") if STATUS.is_file() else _maximum()


def peak_resident() -> int:
    """Return the largest resident bytes so far.

    Linux's own mark of this program, as ``ru_maxrss`` begins with the parent's at the time of the
    fork.
    """
    return _status("VmHWM") if STATUS.is_file() else _maximum()


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
    found = re.search(rf"^{key}:\s*(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def _maximum() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT

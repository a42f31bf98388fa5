"""Memory of this process: what it holds, what it held at its peak, what it may hold."""

import re
import resource
import sys
from pathlib import Path

from backbone.errors import UserError

STATUS = Path("/proc/self/status")
# ru_maxrss counts kibibytes on Linux and bytes on macOS.
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def resident() -> int:
    """Return the resident bytes; where the system does not tell, the peak so far."""
    return _status("VmRSS") if STATUS.is_file() else _maximum()


def peak_resident() -> int:
    """Return the largest resident bytes so far.

    Linux's own mark of this program, as ``ru_maxrss`` begins with the parent's at the time of the
    fork.
    """
    return _status("VmHWM") if STATUS.is_file() else _maximum()


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

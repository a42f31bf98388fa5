"""Starting a tool.

``uv run --no-sync python tools/<tool>.py --help``, in a process of its own, against what a user
may wait for it: 2 seconds.
"""

import subprocess
import time
from collections.abc import Iterator
from statistics import median

import provenance

from peers.side_by_side import Row

LIMIT = 2.0
ROUNDS = 5


def measure(device: str) -> Iterator[Row]:
    """Yield a row a tool."""
    if device != "cpu":
        return
    for tool in sorted((provenance.ROOT / "tools").glob("[!_]*.py")):
        command = ["uv", "run", "--no-sync", "python", str(tool), "--help"]
        times = [_seconds(command) for _ in range(ROUNDS + 1)][1:]
        yield Row(f"{tool.stem} --help", "the limit", "s", median(times), LIMIT, 1, all_ours=times)


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=provenance.ROOT)
    return time.perf_counter() - began

"""Tests marked ``real`` read the data beside the project; without it they are skipped."""

import os
from pathlib import Path

import pytest

# Processes side by side share the cores; before anything imports torch.
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    threads = max(1, (os.cpu_count() or 1) // int(workers))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip them."""
    if not os.environ.get("COMPOUND_DATA"):
        skip = pytest.mark.skip(reason="COMPOUND_DATA names no folder")
        for item in items:
            if item.get_closest_marker("real"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def compound_data() -> Path:
    """The folder with the data that may not be republished."""
    return Path(os.environ["COMPOUND_DATA"])

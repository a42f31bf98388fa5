"""Tests marked ``real`` read the data beside the project; without it they are skipped."""

import os
from pathlib import Path

import pytest


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

"""A tiny drawn data set, made once a session."""

from pathlib import Path

import pytest

from efficientdet.data.index import AnnotationIndex
from efficientdet.data.splits import shapes_splits


@pytest.fixture(scope="session")
def shapes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shapes")


@pytest.fixture(scope="session")
def shapes(shapes_root: Path) -> dict[str, AnnotationIndex]:
    return shapes_splits(shapes_root, num_train=16, num_val=5, picture_size=64, seed=0)

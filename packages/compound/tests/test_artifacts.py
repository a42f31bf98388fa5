"""The description by which W&B tells one version of a data set from another."""

from pathlib import Path

import numpy as np

from backbone.classification.data.datamodule import ClassificationData
from backbone.classification.data.index import ArrayIndex, FileIndex, ImageIndex
from compound.tracking.artifacts import describe


def index_of(*names: str, labels: tuple[int, ...] = (0, 1, 1)) -> FileIndex:
    return FileIndex(Path("/data/train"), np.array(names), np.array(labels), ("cat", "dog"))


def data_of(**splits: ImageIndex) -> ClassificationData:
    return ClassificationData(
        root=None, read=lambda: splits, image_size=4, batch_size=1, seed=0, num_workers=0
    )


def fingerprint(index: ImageIndex) -> str:
    return describe(data_of(val=index))["splits"]["val"]["fingerprint"]


def test_a_data_set_is_described() -> None:
    found = describe(data_of(train=index_of("a", "b", "c"), val=index_of("d", labels=(0,))))
    assert found["class_names"] == ["cat", "dog"]
    assert {name: split["pictures"] for name, split in found["splits"].items()} == {
        "train": 3,
        "val": 1,
    }


def test_what_changes_makes_another_version() -> None:
    first = fingerprint(index_of("a", "b", "c"))
    assert first == fingerprint(index_of("a", "b", "c"))
    assert first == fingerprint(FileIndex(Path("/moved"), np.array(["a", "b", "c"]),
                                          np.array([0, 1, 1]), ("cat", "dog")))  # fmt: skip
    others = {
        fingerprint(index_of("a", "b", "x")),
        fingerprint(index_of("a", "b", "c", labels=(0, 1, 0))),
        fingerprint(index_of("a", "b", labels=(0, 1))),
    }
    assert len(others | {first}) == 4


def test_pictures_in_memory_count() -> None:
    pictures = np.zeros((2, 4, 4, 3), np.uint8)
    first = fingerprint(ArrayIndex(pictures, np.array([0, 1]), ("cat", "dog")))
    pictures[1, 2, 3] = 1
    assert fingerprint(ArrayIndex(pictures, np.array([0, 1]), ("cat", "dog"))) != first
    none = ArrayIndex(pictures[:0], np.array([], np.int64), ("cat", "dog"))
    assert len(fingerprint(none)) == 32

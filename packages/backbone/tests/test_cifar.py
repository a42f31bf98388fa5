"""CIFAR through torchvision, from an archive in the official layout."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10, CIFAR100

from backbone.classification.data.cifar import cifar_splits
from compound.errors import UserError


def write(path: Path, content: dict[str, object]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("num_classes", [10, 100])
def test_official_layout(num_classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = CIFAR10 if num_classes == 10 else CIFAR100
    folder = tmp_path / source.base_folder
    rng = np.random.default_rng(0)
    labels = [i % num_classes for i in range(3 * num_classes)]
    key = "labels" if num_classes == 10 else "fine_labels"
    pixels = rng.integers(0, 256, (len(labels), 3072), np.uint8)
    md5 = write(folder / "batch", {"data": pixels, key: labels})
    meta = {source.meta["key"]: [f"class{i}" for i in range(num_classes)]}
    for name in ("train_list", "test_list"):
        monkeypatch.setattr(source, name, [["batch", md5]])
    monkeypatch.setattr(
        source, "meta", {**source.meta, "md5": write(folder / source.meta["filename"], meta)}
    )
    splits = cifar_splits(tmp_path, num_classes=num_classes)  # type: ignore[arg-type]
    sizes = {name: len(index.labels) for name, index in splits.items()}
    assert sizes == {"train": 2 * num_classes, "val": num_classes, "test": 3 * num_classes}
    assert splits["test"].class_names[3] == "class3"
    planes = pixels[5].reshape(3, 32, 32)  # as they are stored
    assert splits["test"].source(5).whole()[2, 7].tolist() == planes[:, 2, 7].tolist()


def test_what_is_not_there_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: CIFAR10) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(CIFAR10, "download", refuse)
    with pytest.raises(UserError, match=r"no route to host\); download https://.*cifar-10-python"):
        cifar_splits(tmp_path, num_classes=10)
    with pytest.raises(UserError, match="num_classes=20: CIFAR has 10 or 100"):
        cifar_splits(tmp_path, num_classes=20)  # type: ignore[arg-type]

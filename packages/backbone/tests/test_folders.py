"""Image folders in every layout, and mistakes in them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backbone.classification.data.folders import folder_splits
from backbone.classification.data.index import FileIndex
from compound.errors import UserError


def fill(folder: Path, count: int, *, start: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(start, start + count):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(folder / f"{i:03d}.png")


def names_of(index: object) -> set[str]:
    assert isinstance(index, FileIndex)
    return {f"{index.root.name}/{name}" for name in index.file_names.tolist()}


def test_folders_of_all_splits(tmp_path: Path) -> None:
    for split, count in (("train", 4), ("valid", 2), ("test", 3)):
        for name in ("dog", "cat"):
            fill(tmp_path / split / name, count)
    fill(tmp_path / "train" / "dog" / "deeper", 1)
    (tmp_path / "train" / "cat" / "._001.png").touch()
    (tmp_path / "train" / "cat" / "notes.txt").touch()
    (tmp_path / "train" / ".cache").mkdir()
    (tmp_path / "train" / "cat" / "003.png").rename(tmp_path / "train" / "cat" / "003.JPEG")
    splits = folder_splits(tmp_path)
    assert {name: len(index.labels) for name, index in splits.items()} == {
        "train": 9, "val": 4, "test": 6
    }  # fmt: skip
    only_val = folder_splits(tmp_path, val="test", test=None)
    assert {name: len(index.labels) for name, index in only_val.items()} == {"train": 9, "val": 6}
    train = splits["train"]
    assert train.class_names == ("cat", "dog")
    assert train.labels.tolist() == [0] * 4 + [1] * 5
    assert "train/dog/deeper/000.png" in names_of(train)
    assert train.source(2).whole()[0, 0].tolist() == [2, 0, 0]


@pytest.mark.parametrize("inner", ["", "train"])
def test_a_part_of_every_class_is_held_out(tmp_path: Path, inner: str) -> None:
    for name, count in (("a", 40), ("b", 10), ("c", 2), ("d", 1)):
        fill(tmp_path / inner / name, count)
    splits = folder_splits(tmp_path, val_fraction=0.1)
    train, val = names_of(splits["train"]), names_of(splits["val"])
    assert not train & val
    assert len(train | val) == 53
    assert np.bincount(splits["val"].labels, minlength=4).tolist() == [4, 1, 1, 0]
    assert names_of(folder_splits(tmp_path, val_fraction=0.1)["val"]) == val
    assert names_of(folder_splits(tmp_path, val_fraction=0.1, seed=1)["val"]) != val


def test_validation_may_lack_a_class(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        fill(tmp_path / "train" / name, 2)
    fill(tmp_path / "val" / "c", 2)
    assert folder_splits(tmp_path)["val"].labels.tolist() == [2, 2]
    (tmp_path / "val" / "a").mkdir()  # empty, which only a training folder may not be
    assert folder_splits(tmp_path)["val"].labels.tolist() == [2, 2]
    fill(tmp_path / "val" / "z", 1)
    with pytest.raises(UserError, match=r"val/z: the training folder has no class of that name"):
        folder_splits(tmp_path)


def test_a_list_of_labels_is_for_evaluation(tmp_path: Path) -> None:
    fill(tmp_path / "images", 3)
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"002.png": 1, "000.png": 2, "001.png": 0}))
    (tmp_path / "synsets.txt").write_text("one\ntwo\nthree words\n")
    splits = folder_splits(tmp_path)
    assert list(splits) == ["val"]
    assert splits["val"].labels.tolist() == [2, 0, 1]
    assert splits["val"].class_names == ("one", "two", "three words")
    for content, message in (
        ({"009.png": 0}, r"lists 009\.png, but .*images/009\.png does not exist"),
        ({"001.png": 3}, r"class indices must be in 0\.\.2"),
        ({"001.png": "dog"}, "expected file names with class indices"),
        ({"001.png": 0.5}, "expected file names with class indices"),
        (["001.png"], "expected file names with class indices"),
        ({}, "lists no picture"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match=message):
            folder_splits(tmp_path)
    path.write_text("{")
    with pytest.raises(UserError, match=r"labels\.json: expected file names"):
        folder_splits(tmp_path)


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: there is no such folder"):
        folder_splits(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no class folder"):
        folder_splits(tmp_path)
    fill(tmp_path / "cat", 2)
    with pytest.raises(UserError, match="holds one class folder, cat; expected"):
        folder_splits(tmp_path)
    (tmp_path / "dog").mkdir()
    with pytest.raises(UserError, match="dog holds no picture"):
        folder_splits(tmp_path)
    fill(tmp_path / "dog", 2)
    with pytest.raises(UserError, match=r"val_fraction=1\.5: expected a share"):
        folder_splits(tmp_path, val_fraction=1.5)


@pytest.mark.parametrize("beside", ["val", "validation", "test"])
def test_a_split_is_not_taken_for_a_class(tmp_path: Path, beside: str) -> None:
    for name in ("cat", "dog"):
        fill(tmp_path / "training" / name, 2)
        fill(tmp_path / beside / name, 2)
    with pytest.raises(UserError, match=f"holds {beside}, but no train beside it"):
        folder_splits(tmp_path)
    assert len(folder_splits(tmp_path, train="training")["train"].labels) > 0


@pytest.mark.real
def test_real_folders(compound_data: Path) -> None:
    splits = folder_splits(compound_data / "data/clothing")
    assert len(splits["train"].labels) + len(splits["val"].labels) == 1192
    assert (len(splits["test"].labels), len(splits["test"].class_names)) == (372, 10)
    listed = folder_splits(compound_data / "data/imagenet250")["val"]
    assert (len(listed.labels), len(listed.class_names)) == (250, 1000)
    assert listed.class_names[int(listed.labels[0])] == "n01443537"  # goldfish is class 1

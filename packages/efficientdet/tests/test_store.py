"""What was read of an annotation file comes from the cache, as long as it is true."""

import errno
import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from compound.data.sampler import Draw
from compound.errors import UserError
from efficientdet.data.augment import Augment
from efficientdet.data.coco import read_coco
from efficientdet.data.dataset import DetectionDataset, collate, without_empty
from efficientdet.data.index import AnnotationIndex
from efficientdet.data.splits import coco_splits
from efficientdet.data.store import stored
from efficientdet.evaluation.evaluator import CocoEvaluator
from efficientdet.postprocess import Detections


@pytest.fixture(autouse=True)
def small_files_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("efficientdet.data.store.MIN_BYTES", 0)


@pytest.fixture
def root(shapes_root: Path, shapes: dict[str, AnnotationIndex], tmp_path: Path) -> Path:
    """A copy of the drawn data set, to be changed."""
    (drawn,) = shapes_root.glob("shapes-*")
    return Path(shutil.copytree(drawn, tmp_path / "set"))


class Reader:
    """Reads COCO and counts how often."""

    def __init__(self, root: Path, cache: Path | None) -> None:
        self.root, self.cache, self.count = root, cache, 0

    @property
    def file(self) -> Path:
        return self.root / "annotations" / "instances_train2017.json"

    def __call__(self) -> AnnotationIndex:
        return stored(self._read, self.file, self.root / "train2017", cache_dir=self.cache)

    def _read(self, annotation_file: Path, image_dir: Path) -> AnnotationIndex:
        self.count += 1
        return read_coco(annotation_file, image_dir)

    @property
    def entries(self) -> list[Path]:
        assert self.cache is not None
        return sorted((self.cache / "annotations").iterdir())


@pytest.fixture
def reader(root: Path, tmp_path: Path) -> Reader:
    return Reader(root, tmp_path / "cache")


def assert_same(ours: AnnotationIndex, other: AnnotationIndex) -> None:
    for field in fields(AnnotationIndex):
        mine, theirs = getattr(ours, field.name), getattr(other, field.name)
        if isinstance(mine, np.ndarray):
            assert mine.dtype == theirs.dtype
            assert np.array_equal(mine, theirs), field.name
        else:
            assert mine == theirs, field.name


def test_second_reading_is_of_the_cache_and_the_same(reader: Reader) -> None:
    expected = read_coco(reader.file, reader.root / "train2017")
    assert_same(reader(), expected)
    assert_same(reader(), expected)
    assert reader.count == 1
    # Another process has no more than this one.
    assert not reader().boxes.flags.writeable


def test_repairs_are_told_again(reader: Reader) -> None:
    content = json.loads(reader.file.read_text())
    content["annotations"][0]["bbox"][2] = 0
    content["annotations"].append(content["annotations"][1])
    reader.file.write_text(json.dumps(content))
    expected = {"repeated annotations dropped": 1, "zero-size boxes dropped": 1}
    assert reader().repairs == expected
    assert reader().repairs == expected
    assert reader.count == 1


def test_changed_file_is_read_again_and_its_old_entry_removed(reader: Reader) -> None:
    before = reader()
    content = json.loads(reader.file.read_text())
    content["annotations"].pop()
    reader.file.write_text(json.dumps(content))
    after = reader()
    assert len(after.boxes) == len(before.boxes) - 1
    assert reader.count == 2
    assert len(reader.entries) == 1


def test_file_of_the_same_size_but_another_time_is_read_again(reader: Reader) -> None:
    reader()
    state = reader.file.stat()
    os.utime(reader.file, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    reader()
    assert reader.count == 2


def test_entries_of_other_files_and_folders_stay(reader: Reader, tmp_path: Path) -> None:
    reader()
    other = Reader(Path(shutil.copytree(reader.root, tmp_path / "other")), reader.cache)
    assert other().image_dir == tmp_path / "other" / "train2017"
    assert len(reader.entries) == 2
    reader()
    assert (reader.count, other.count) == (1, 1)


def cut(entry: Path) -> None:
    os.truncate(entry / "boxes.npy", 200)


def flip(entry: Path) -> None:
    path = entry / "labels.npy"
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)


def forget(entry: Path) -> None:
    (entry / "index.json").unlink()


def garble(entry: Path) -> None:
    (entry / "index.json").write_text("[]")


@pytest.mark.parametrize("damage", [cut, flip, forget, garble])
def test_damaged_entry_is_made_anew(reader: Reader, damage: Callable[[Path], None]) -> None:
    expected = reader()
    (entry,) = reader.entries
    arrays = {name: getattr(expected, name).copy() for name in ("boxes", "labels")}
    damage(entry)
    again = reader()
    assert all(np.array_equal(getattr(again, name), array) for name, array in arrays.items())
    assert reader.count == 2
    reader()
    assert reader.count == 2


def test_cache_that_cannot_be_made_is_told_once(
    reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    assert reader.cache is not None
    reader.cache.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        assert_same(reader(), reader())
    assert reader.count == 2
    assert [r.message for r in caplog.records if "cannot be kept in" in r.message] == [
        f"annotations cannot be kept in {reader.cache / 'annotations'} (Not a directory)"
    ]


def test_full_disk_leaves_nothing_behind(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save = np.save

    def full(path: Path, array: np.ndarray, **options: bool) -> None:
        if Path(path).name == "boxes.npy":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(path, array, **options)

    monkeypatch.setattr(np, "save", full)
    with caplog.at_level(logging.WARNING):
        assert len(reader()) == 16
    assert "No space left on device" in caplog.text
    assert reader.entries == []


def test_two_processes_that_write_at_once_agree(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def outrun(self: Path, target: Path) -> Path:
        shutil.copytree(self, target)  # the other one was there first
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", outrun)
    index = reader()
    assert_same(index, read_coco(reader.file, reader.root / "train2017"))
    assert not index.boxes.flags.writeable  # the other's
    assert len(reader.entries) == 1
    reader()
    assert reader.count == 1


def test_missing_picture_is_told_from_the_cache_too(reader: Reader) -> None:
    index = reader()
    (index.image_dir / str(index.file_names[0])).unlink()
    with pytest.raises(UserError, match=r"instances_train2017\.json lists .* does not exist"):
        reader()
    assert reader.count == 1


def test_small_files_and_runs_without_a_cache_are_read(
    reader: Reader, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("efficientdet.data.store.MIN_BYTES", reader.file.stat().st_size + 1)
    reader()
    assert reader.cache is not None
    assert not reader.cache.exists()
    without = Reader(root, None)
    without()
    without()
    assert without.count == 2


def test_splits_hand_the_cache_folder_on(root: Path, tmp_path: Path) -> None:
    splits = coco_splits(root, cache_dir=tmp_path / "cache")
    assert len(list((tmp_path / "cache" / "annotations").iterdir())) == len(splits) == 2


def test_what_is_mapped_serves_training_and_evaluation(reader: Reader) -> None:
    reader()
    index = reader()
    assert len(without_empty(index, crowd="skip")) == (np.diff(index.offsets) > 0).sum()
    dataset = DetectionDataset(index, Augment((64, 64)))
    batch = collate([dataset[Draw(i, seed=0)] for i in range(4)])
    assert batch.images.shape == (4, 3, 64, 64)
    evaluator = CocoEvaluator(index)
    for i, image_id in enumerate(index.image_ids.tolist()):
        rows = index.rows(i)
        boxes, labels = (torch.tensor(a[rows]) for a in (index.boxes, index.labels))
        evaluator.add(image_id, Detections(boxes, torch.ones(len(boxes)), labels))
    assert evaluator.evaluate()[0].metrics["mAP"] == pytest.approx(1.0)

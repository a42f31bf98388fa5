"""The drawn data set: the same for the same parameters, complete, varied and tightly boxed."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from compound.errors import UserError
from efficientdet.data import shapes
from efficientdet.data.coco import read_coco
from efficientdet.data.index import AnnotationIndex
from efficientdet.data.shapes import CLASSES, draw_picture, ensure_shapes


def ensure(cache_dir: Path, *, num_train: int = 3, num_val: int = 3, seed: int = 0) -> Path:
    return ensure_shapes(
        cache_dir, num_train=num_train, num_val=num_val, picture_size=64, seed=seed
    )


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def read_back(folder: Path, split: str) -> AnnotationIndex:
    annotation_file = folder / "annotations" / f"instances_{split}2017.json"
    return read_coco(annotation_file, folder / f"{split}2017")


def test_same_parameters_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = ensure(tmp_path / "a"), ensure(tmp_path / "b")
    assert first.name == second.name
    assert contents(first) == contents(second)
    assert len(contents(first)) == 8


def test_seeds_and_splits_differ(tmp_path: Path) -> None:
    first, second = ensure(tmp_path), ensure(tmp_path, seed=1)
    assert first != second
    names = [f"{i:012d}.jpg" for i in (1, 2, 3)]
    pictures = [
        (folder / split / name).read_bytes()
        for folder in (first, second)
        for split in ("train2017", "val2017")
        for name in names
    ]
    assert len(set(pictures)) == 12


def test_a_picture_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    few, more = contents(ensure(tmp_path)), contents(ensure(tmp_path, num_train=5))
    shared = [name for name in few if name.endswith(".jpg")]
    assert len(shared) == 6
    assert all(few[name] == more[name] for name in shared)


def test_second_call_does_not_draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ensure(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    monkeypatch.setattr(shapes, "draw_picture", None)
    assert ensure(tmp_path) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == times


def test_readable_as_coco(tmp_path: Path) -> None:
    folder = ensure(tmp_path, num_train=12)
    index = read_back(folder, "train")
    assert len(index) == 12
    assert index.class_names == CLASSES
    assert index.repairs == {}
    assert not index.crowd.any()
    picture = cv2.imread(str(folder / "train2017" / str(index.file_names[0])))
    assert picture is not None
    assert picture.shape == (64, 64, 3)
    content = json.loads((folder / "annotations" / "instances_train2017.json").read_text())
    assert content["info"]["num_train"] == 12
    assert content["info"]["seed"] == 0


def test_crash_leaves_nothing_and_the_next_call_draws_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shapes, "draw_picture", crash)
        with pytest.raises(KeyboardInterrupt):
            ensure(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert len(contents(ensure(tmp_path))) == 8


def test_half_written_folder_of_a_killed_process_is_never_used(tmp_path: Path) -> None:
    name = ensure(tmp_path / "elsewhere").name
    half = tmp_path / f".{name}.123-abcd" / "train2017"
    half.mkdir(parents=True)
    (half / "000000000001.jpg").write_bytes(b"half")
    folder = ensure(tmp_path)
    assert contents(folder) == contents(tmp_path / "elsewhere" / name)


def test_losing_the_race_uses_the_winner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    winner = ensure(tmp_path / "elsewhere")
    target = tmp_path / winner.name
    draw = shapes.draw_picture

    def draw_while_the_other_finishes(
        rng: np.random.Generator, *, picture_size: int
    ) -> tuple[np.ndarray, list[shapes.DrawnObject]]:
        if not target.exists():
            winner.rename(target)
        return draw(rng, picture_size=picture_size)

    monkeypatch.setattr(shapes, "draw_picture", draw_while_the_other_finishes)
    assert ensure(tmp_path) == target
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", target.name]


@pytest.mark.parametrize(
    ("name", "value"), [("num_train", 0), ("num_val", 0), ("picture_size", 31), ("seed", -1)]
)
def test_parameter_out_of_range_is_named(tmp_path: Path, name: str, value: int) -> None:
    good = {"num_train": 1, "num_val": 1, "picture_size": 32, "seed": 0}
    with pytest.raises(UserError, match=f"{name} is {value}; it must be at least"):
        ensure_shapes(tmp_path, **{**good, name: value})


def test_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write the shapes data set into .*file"):
        ensure(tmp_path / "file")


def test_sizes_classes_counts_and_empty_pictures() -> None:
    drawn = [draw_picture(np.random.default_rng([7, 0, i]), picture_size=256) for i in range(300)]
    counts = np.array([len(objects) for _, objects in drawn])
    assert counts.max() <= 8
    assert 0.01 < np.mean(counts == 0) < 0.10
    assert 2.5 < counts.mean() < 5
    areas = np.array([item.area for _, objects in drawn for item in objects])
    small, large = np.mean(areas < 32**2), np.mean(areas > 96**2)
    assert 0.12 < small < 0.35
    assert 0.15 < large < 0.40
    labels = [item.label for _, objects in drawn for item in objects]
    share = np.bincount(labels, minlength=len(CLASSES)) / len(labels)
    assert share.min() > 0.5 / len(CLASSES)
    # No background is plain, with objects or without.
    assert min(picture.std() for picture, _ in drawn) > 5


def test_boxes_are_tight_and_inside_the_frame() -> None:
    num_cut = 0
    for i in range(60):
        _, objects = draw_picture(np.random.default_rng([3, 0, i]), picture_size=128)
        for item in objects:
            rows, columns = np.nonzero(item.mask > 127)
            x, y, w, h = item.box_xywh
            assert (x, x + w - 1) == (columns.min(), columns.max())
            assert (y, y + h - 1) == (rows.min(), rows.max())
            assert item.area == len(rows)
            num_cut += x == 0 or y == 0 or x + w == 128 or y + h == 128
    assert num_cut > 10


def test_only_pixels_of_the_mask_are_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without noise, blur and grain nothing but the shapes stands out from a grey canvas.
    def plain(rng: np.random.Generator, size: int) -> np.ndarray:
        return np.full((size, size, 3), 128, np.float32)

    monkeypatch.setattr(shapes, "background", plain)
    monkeypatch.setattr(cv2, "GaussianBlur", lambda canvas, *_: canvas)
    for i in range(20):
        rng = np.random.default_rng([5, 0, i])
        picture, objects = draw_picture(rng, picture_size=96)
        # Grain has a standard deviation of 6 at most: 30 is five of them.
        changed = np.abs(picture.astype(int) - 128).max(axis=2) > 30
        covered = np.any([item.mask > 0 for item in objects] or [np.zeros((96, 96))], axis=0)
        assert not np.any(changed & ~covered)
        if objects:
            front = objects[-1].mask == 255
            assert changed[front].mean() > 0.25


def test_every_object_stays_visible() -> None:
    for i in range(60):
        _, objects = draw_picture(np.random.default_rng([4, 0, i]), picture_size=128)
        for position, item in enumerate(objects):
            visible = item.mask > 127
            for other in objects[position + 1 :]:
                visible = visible & ~(other.mask > 127)
            assert np.count_nonzero(visible) >= shapes.MIN_VISIBLE * item.area

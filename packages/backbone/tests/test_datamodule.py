"""Batches of labelled pictures: repeatable, resumable, whole."""

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch
from PIL import Image

from backbone.classification.data.datamodule import ClassificationData
from backbone.classification.data.dataset import Batch, Sample, collate
from backbone.classification.data.folders import folder_splits
from backbone.classification.data.index import ArrayIndex, ImageIndex
from backbone.specs import Preprocessing
from compound.errors import UserError

SIZE = 16


def array_splits() -> dict[str, ImageIndex]:
    pictures = np.random.default_rng(0).integers(0, 256, (20, 24, 20, 3), np.uint8)
    labels = np.arange(20, dtype=np.int64) % 3
    index = ArrayIndex(pictures, labels, ("a", "b", "c"))
    return {"train": index, "val": index.subset(np.arange(7))}


def data_of(splits: Any = None, **changes: Any) -> ClassificationData:
    arguments: dict[str, Any] = {
        "root": None,
        "read": lambda: splits or array_splits(),
        "image_size": SIZE,
        "batch_size": 4,
        "seed": 0,
        "num_workers": 0,
    }
    return ClassificationData(**(arguments | changes))


def pixels(batches: Iterable[Batch]) -> torch.Tensor:
    return torch.cat([batch.images for batch in batches])


@pytest.mark.parametrize(
    "changes", [{}, {"policy": "v0"}, {"transforms": [A.RandomBrightnessContrast(p=0.5)]}]
)
def test_workers_change_nothing(changes: dict[str, Any]) -> None:
    seen = [pixels(data_of(num_workers=n, **changes).train_dataloader()) for n in (0, 2)]
    assert torch.equal(*seen)
    assert seen[0].shape == (20, 3, SIZE, SIZE)
    assert seen[0].dtype == torch.uint8


def test_epochs_differ_and_a_resumed_one_is_the_same() -> None:
    loader: Any = data_of().train_dataloader()
    first = pixels(loader)
    loader.sampler.set_epoch(1)
    second = pixels(loader)
    assert not torch.equal(first, second)
    resumed = data_of()
    data: Any = data_of()
    data.trainer = SimpleNamespace(current_epoch=0)
    resumed.load_state_dict(data.state_dict())
    assert torch.equal(pixels(resumed.train_dataloader()), second)


def test_transforms_change_training_images_alone() -> None:
    plain, changed = data_of(), data_of(transforms=[A.InvertImg(p=1)])
    assert torch.equal(255 - pixels(plain.train_dataloader()), pixels(changed.train_dataloader()))
    assert torch.equal(pixels(plain.val_dataloader()), pixels(changed.val_dataloader()))


def test_evaluation_sees_every_picture_once_and_as_the_weights_ask() -> None:
    data = data_of(eval_batch_size=5)
    data.preprocessing = Preprocessing(interpolation="bilinear", crop=None)
    batches = list(data.val_dataloader())
    assert [len(batch.labels) for batch in batches] == [5, 2]
    assert torch.cat([batch.indices for batch in batches]).tolist() == list(range(7))
    assert torch.cat([batch.labels for batch in batches]).tolist() == [0, 1, 2, 0, 1, 2, 0]
    picture = Image.fromarray(array_splits()["val"].source(6).whole())
    expected = np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    assert np.array_equal(batches[1].images[1].permute(1, 2, 0).numpy(), expected)
    # What the user says goes first.
    data = data_of(crop=1.0, interpolation="bicubic")
    data.preprocessing = Preprocessing(interpolation="bilinear", crop=None)
    found = next(iter(data.val_dataloader())).images[0].permute(1, 2, 0).numpy()
    picture = Image.fromarray(array_splits()["val"].source(0).whole()).crop((0, 2, 20, 22))
    assert np.array_equal(found, np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC)))


def test_grey_pictures() -> None:
    grey = pixels(data_of(in_channels=1).val_dataloader())
    colour = pixels(data_of().val_dataloader())
    assert grey.shape == (7, 1, SIZE, SIZE)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)  # luminance of Rec. 601
    assert ((colour * weights).sum(1, keepdim=True) - grey).abs().max() <= 1


def broken_folder(folder: Path, split: str) -> Path:
    for name in ("a", "b"):
        for part in ("train", "val"):
            (folder / part / name).mkdir(parents=True)
            for i in range(4):
                Image.new("RGB", (8, 8), (i, i, i)).save(folder / part / name / f"{i}.png")
    path = folder / split / "b" / "2.png"
    path.write_bytes(path.read_bytes()[:40])
    return folder


def test_readable_pictures_stand_in_for_an_unreadable_one(tmp_path: Path) -> None:
    root = broken_folder(tmp_path, "train")
    data = data_of(root=str(root), read=folder_splits, batch_size=8)
    data.prepare_data()
    (batch,) = data.train_dataloader()
    assert len(batch.images) == 8
    assert len(batch.unreadable) == 1
    assert "train/b/2.png cannot be decoded" in batch.unreadable[0]
    assert sorted(set(batch.indices.tolist())) == [0, 1, 2, 3, 4, 5, 7]


def test_unreadable_validation_picture_is_refused(tmp_path: Path) -> None:
    data = data_of(root=str(broken_folder(tmp_path, "val")), read=folder_splits)
    with pytest.raises(UserError, match=r"val/b/2\.png cannot be decoded; a score without"):
        data.prepare_data()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, r"data\.batch_size=0"),
        ({"image_size": [3, 4]}, r"model\.image_size=\[3, 4\]"),
        ({"in_channels": 2}, r"model\.in_channels=2"),
        ({"interpolation": "nearest"}, r"data\.interpolation=nearest"),
        ({"crop": 1.5}, r"data\.crop=1\.5"),
        ({"scale": (0.5, 2.0)}, r"data\.scale=\[0\.5, 2\.0\]"),
        ({"ratio": (0.0, 1.0)}, r"data\.ratio=\[0\.0, 1\.0\]"),
        ({"flip": 2}, r"data\.flip=2"),
        ({"eval_batch_size": 0}, r"data\.eval_batch_size=0"),
        ({"policy": "none"}, r"data\.policy=none"),
    ],
)
def test_mistakes(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        data_of(**changes)


def test_a_training_needs_pictures() -> None:
    with pytest.raises(UserError, match="batch_size=21 is too much for 20 training pictures"):
        data_of(batch_size=21).train_dataloader()
    only = {"val": array_splits()["val"]}
    with pytest.raises(UserError, match="for evaluation only"):
        data_of(only).train_dataloader()
    with pytest.raises(UserError, match="no test split"):
        data_of(only).test_dataloader()


def test_a_batch_without_any_readable_picture_is_refused() -> None:
    with pytest.raises(UserError, match=r"a whole batch .* cannot be read, for one a is broken"):
        collate([Sample(None, 0, 0, "a is broken"), Sample(None, 1, 1, "b is broken")])

"""Loading: what a batch holds, and that no two workers give the same one."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

from compound.errors import UserError
from efficientdet.data.datamodule import DetectionData
from efficientdet.data.dataset import Batch
from efficientdet.data.index import AnnotationIndex


def make(splits: dict[str, AnnotationIndex], **changes: Any) -> DetectionData:
    arguments: dict[str, Any] = {
        "image_size": (64, 96),
        "batch_size": 4,
        "seed": 0,
        "num_workers": 0,
        "scale": (1.5, 3.0),
    }
    return DetectionData(root="", read=lambda _: splits, **(arguments | changes))


def epoch(data: DetectionData, number: int) -> list[Batch]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(number)
    return list(loader)


def test_batch_is_uint8_channels_last_with_ragged_boxes(shapes: dict[str, AnnotationIndex]) -> None:
    batch = epoch(make(shapes), 0)[0]
    assert batch.images.shape == (4, 3, 64, 96)
    assert batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert [b.shape[1] for b in batch.boxes] == [4] * 4
    assert [len(b) for b in batch.boxes] == [len(labels) for labels in batch.labels]


def test_workers_and_epochs_differ_and_the_seed_decides(shapes: dict[str, AnnotationIndex]) -> None:
    # One picture sixteen times: whatever differs is the augmentation.
    same = replace(
        shapes["train"],
        file_names=np.repeat(shapes["train"].file_names[:1], 16),
        offsets=np.zeros(17, np.int64),
    )
    splits = {"train": same, "val": shapes["val"]}
    with_workers = epoch(make(splits, num_workers=2), 0)
    alone = epoch(make(splits), 0)
    later = epoch(make(splits), 1)
    pictures = torch.cat([batch.images for batch in with_workers]).flatten(1)
    assert len(torch.unique(pictures, dim=0)) == 16
    for a, b, c in zip(with_workers, alone, later, strict=True):
        assert torch.equal(a.images, b.images)
        assert not torch.equal(a.images, c.images)


def test_unreadable_picture_is_named_and_crowds_are_no_targets(
    shapes: dict[str, AnnotationIndex], tmp_path: Path
) -> None:
    index = shapes["train"]
    shutil.copytree(index.image_dir, tmp_path / "pictures")
    broken = tmp_path / "pictures" / str(index.file_names[0])
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    copy = replace(index, image_dir=tmp_path / "pictures", crowd=np.ones_like(index.crowd))
    batches = epoch(make({"train": copy, "val": shapes["val"]}), 0)
    (told,) = [name for batch in batches for name in batch.unreadable]
    assert told == f"{broken} cannot be decoded"
    assert sum(len(b) for batch in batches for b in batch.boxes) == 0


def test_picture_of_another_size_than_annotated_is_named(
    shapes: dict[str, AnnotationIndex],
) -> None:
    # As a camera's picture that was turned after it was annotated: 64 x 64 is called 64 x 48.
    copy = replace(shapes["train"], sizes=shapes["train"].sizes - [0, 16])
    batch = epoch(make({"train": copy, "val": copy}), 0)[0]
    assert all("is 64 x 64 pixels, but its annotation says 64 x 48" in m for m in batch.unreadable)
    assert len(batch.unreadable) == 4


def test_repairs_are_told(
    shapes: dict[str, AnnotationIndex], caplog: pytest.LogCaptureFixture
) -> None:
    make(shapes | {"train": replace(shapes["train"], repairs={"zero-size boxes dropped": 2})})
    assert [record.getMessage() for record in caplog.records] == [
        "train split: 2 zero-size boxes dropped"
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "data.batch_size=0"),
        ({"scale": [2]}, r"data.scale=\[2\]"),
        ({"scale": (2.0, 1.0)}, "data.scale="),
        ({"image_size": "5l2"}, "image_size=5l2"),
        ({"image_size": (1, 2, 3)}, "image_size="),
        ({"policy": "v9"}, r"data.policy=v9 is unknown; there are v0, v1, v2, v3"),
        ({"grid_mask": 2}, r"data.grid_mask=2: expected a probability"),
        ({"mosaic": -0.5}, r"data.mosaic=-0.5: expected a probability"),
        ({"mixup": "yes"}, r"data.mixup=yes: expected a probability"),
        ({"copy_paste": 1.5}, r"data.copy_paste=1.5: expected a probability"),
        ({"close_mosaic_epochs": -1}, r"data.close_mosaic_epochs=-1: expected a number of epochs"),
        ({"crowd": "ignore"}, r"data.crowd=ignore: expected skip or train"),
        ({"empty": "dorp"}, r"data.empty=dorp: expected keep or drop"),
    ],
)
def test_impossible_numbers_are_refused(
    shapes: dict[str, AnnotationIndex], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make(shapes, **change)


def test_impossible_batch_is_refused(shapes: dict[str, AnnotationIndex]) -> None:
    with pytest.raises(UserError, match=r"data.batch_size=17 .* 16 training pictures"):
        make(shapes, batch_size=17).train_dataloader()


class Spy(pl.LightningModule):
    """Learns nothing; notes which batches of which epoch hold pictures of several colours."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.mixed: dict[int, set[bool]] = {}

    def training_step(self, batch: Batch, _: int) -> torch.Tensor:
        flat = batch.images.flatten(2)
        several = bool((flat != flat[:, :, :1]).any())
        self.mixed.setdefault(self.current_epoch, set()).add(several)
        return self.weight

    def validation_step(self, batch: Batch, _: int) -> None: ...

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def plain_pictures(index: AnnotationIndex, folder: Path) -> AnnotationIndex:
    """Return the split with pictures that have one colour each."""
    for i, name in enumerate(index.file_names):
        Image.new("RGB", (64, 64), (i * 15, i * 15, i * 15)).save(folder / f"{name}.png")
    names = np.array([f"{name}.png" for name in index.file_names])
    return replace(index, image_dir=folder, file_names=names)


def fit(data: DetectionData, folder: Path, max_epochs: int) -> Spy:
    spy = Spy()
    trainer = pl.Trainer(
        default_root_dir=folder,
        max_epochs=max_epochs,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(spy, datamodule=data)
    return spy


@pytest.mark.train
@pytest.mark.parametrize("num_workers", [0, 2])
def test_mosaic_is_closed_in_the_last_epochs(
    shapes: dict[str, AnnotationIndex], tmp_path: Path, num_workers: int
) -> None:
    index = plain_pictures(shapes["train"], tmp_path)
    data = make(
        {"train": index, "val": index},
        image_size=64,
        scale=(1.0, 1.0),
        num_workers=num_workers,
        mosaic=1.0,
        close_mosaic_epochs=2,
    )
    spy = fit(data, tmp_path, 4)
    assert spy.mixed == {0: {True}, 1: {True}, 2: {False}, 3: {False}}


@pytest.mark.train
def test_closing_needs_to_know_the_end(
    shapes: dict[str, AnnotationIndex], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = make(shapes, mosaic=1.0, close_mosaic_epochs=2)
    fit(data, tmp_path, 1)
    assert "leaves no epoch to mosaic, mixup, copy_paste" in caplog.text
    assert data.trainer is not None
    data.trainer.fit_loop.max_epochs = -1
    with pytest.raises(UserError, match=r"data.close_mosaic_epochs=2: .* trainer.max_epochs"):
        data.train_dataloader()


def test_crowds_and_pictures_without_objects_as_told(shapes: dict[str, AnnotationIndex]) -> None:
    index = shapes["train"]
    crowd = np.zeros_like(index.crowd)
    crowd[index.rows(0)] = crowd[index.rows(1)] = True
    marked = replace(index, crowd=crowd)
    splits = {"train": marked, "val": marked}
    empty = (np.diff(index.offsets) == 0).sum()

    def shown(**changes: Any) -> tuple[int, int]:
        data = make(splits, batch_size=1, scale=(1.0, 1.0), **changes)
        batches = epoch(data, 0)
        assert len(batches) == data.num_pictures("train")
        assert data.num_pictures("val") == len(index)  # evaluation keeps all
        counted = {int(batch.image_ids): len(batch.boxes[0]) for batch in batches}
        by_id = {int(key): index.rows(i) for i, key in enumerate(index.image_ids)}
        for image_id, count in counted.items():
            rows = by_id[image_id]
            learned = len(range(rows.start, rows.stop))
            skipped = 0 if changes.get("crowd") == "train" else int(crowd[rows].sum())
            assert count == learned - skipped
        return len(batches), sum(counted.values())

    assert shown() == (16, (~crowd).sum())
    assert shown(crowd="train") == (16, len(crowd))
    assert shown(empty="drop") == (14 - empty, (~crowd).sum())
    assert shown(empty="drop", crowd="train") == (16 - empty, len(crowd))


def test_dropping_all_is_refused(shapes: dict[str, AnnotationIndex]) -> None:
    index = shapes["train"]
    nothing = replace(index, crowd=np.ones_like(index.crowd))
    with pytest.raises(UserError, match=r"data.empty=drop leaves no training picture"):
        make({"train": nothing, "val": index}, empty="drop")


def test_what_is_no_picture_has_the_networks_colour(shapes: dict[str, AnnotationIndex]) -> None:
    data = make(shapes, image_size=(64, 96), scale=(1.0, 1.0))
    data.pad_colour = (127, 126, 125)  # as a module does in its setup
    for batch in (epoch(data, 0)[0], next(iter(data.val_dataloader()))):
        right = batch.images[:, :, :, 64:].movedim(1, -1)
        assert bool((right == torch.tensor([127, 126, 125], dtype=torch.uint8)).all())


@pytest.mark.parametrize(
    "change",
    [{"policy": "v2"}, {"policy": "rand-n1-m15"}, {"grid_mask": 1.0}, {"mosaic": 1.0}],
)
def test_each_kind_acts_on_training_alone(
    shapes: dict[str, AnnotationIndex], change: dict[str, Any]
) -> None:
    plain, changed = make(shapes), make(shapes, **change)
    pairs = zip(epoch(plain, 0), epoch(changed, 0), strict=True)
    assert any(not torch.equal(a.images, b.images) for a, b in pairs)
    pairs = zip(plain.val_dataloader(), changed.val_dataloader(), strict=True)
    assert all(torch.equal(a.images, b.images) for a, b in pairs)


def test_a_split_without_objects_is_refused(shapes: dict[str, AnnotationIndex]) -> None:
    index = shapes["val"]
    crowds = replace(index, crowd=np.ones_like(index.crowd))  # which no score counts
    nothing = {
        "boxes": index.boxes[:0],
        "labels": index.labels[:0],
        "crowd": index.crowd[:0],
        "areas": index.areas[:0],
        "offsets": np.zeros_like(index.offsets),
    }
    for split, wrong in (
        ("val", crowds),
        ("val", replace(index, **nothing)),
        ("train", replace(index, **nothing)),
    ):
        splits = shapes | {split: wrong}
        with pytest.raises(UserError, match=f"the {split} split has no object in 5 pictures"):
            DetectionData(root="", read=lambda _, s=splits: s, image_size=64, batch_size=2, seed=0)

"""Loading: what a batch holds, and that no two workers give the same one."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backbone.errors import UserError
from efficientdet.data.dataset import Batch
from efficientdet.data.index import AnnotationIndex
from efficientdet.data.module import DetectionData


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
    batches = epoch(make({"train": copy, "val": copy}), 0)
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

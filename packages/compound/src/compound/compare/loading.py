"""How many pictures a second the loader of a classification training gives."""

import tempfile
import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from backbone.classification.data.datamodule import ClassificationData
from backbone.classification.data.index import FileIndex, ImageIndex
from compound.compare.jobs import LoaderJob
from compound.data.drawing import background, finish

# As many pixels as ImageNet's usual 500 x 375 pictures have.
SIDE = 433
NUM_PICTURES = 8


def measure_loader(job: LoaderJob) -> float:
    """Return pictures a second, from JPEG files that are drawn for it."""
    with tempfile.TemporaryDirectory() as folder:
        names = _draw(Path(folder))
        data = _data(job, Path(folder), names, num_pictures=job.batch_size)
        workers = max(1, data.num_workers)
        # Two batches a worker are on their way when the first one comes.
        skipped, counted = 2 * workers, job.batches * workers
        batches = skipped + counted + 1
        data = _data(job, Path(folder), names, num_pictures=batches * job.batch_size)
        loader = iter(data.train_dataloader())
        for _ in islice(loader, skipped):
            pass
        began = time.perf_counter()
        for _ in islice(loader, counted):
            pass
        return counted * job.batch_size / (time.perf_counter() - began)


def _draw(folder: Path) -> list[str]:
    for i in range(NUM_PICTURES):
        rng = np.random.default_rng(i)
        picture = finish(rng, background(rng, SIDE))
        cv2.imwrite(str(folder / f"{i}.jpg"), picture)
    return [f"{i}.jpg" for i in range(NUM_PICTURES)]


def _data(
    job: LoaderJob, folder: Path, names: list[str], *, num_pictures: int
) -> ClassificationData:
    """Return loaders over the pictures, repeated until there are enough."""
    index = FileIndex(
        folder, np.resize(names, num_pictures), np.zeros(num_pictures, np.int64), ("drawn",)
    )

    def read() -> Mapping[str, ImageIndex]:
        return {"train": index, "val": index}

    return ClassificationData(
        root=None,
        read=read,
        image_size=job.size,
        batch_size=job.batch_size,
        seed=0,
        num_workers=job.num_workers,
        interpolation=job.interpolation,
        scale=job.scale,
        policy=job.policy,
    )

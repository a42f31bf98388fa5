"""Loading pictures for a classification training.

JPEG of 500 x 375 to random crops, flipped, uint8, in batches of 32, by one thread: what a data set
and its collate function do, against timm's `ImageDataset`, `create_transform` and `fast_collate`.
Both shrink bicubically with antialiasing; crops that shrink by 2 or more ours decodes at a half, a
quarter or an eighth of their size before, and its policies warp by OpenCV in place of Pillow. The
pictures are noise with the spectrum of photographs, as large in bytes as ImageNet's; with
``COMPOUND_DATA`` also 250 of ImageNet's kind as they are.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from timm.data.dataset import ImageDataset
from timm.data.loader import fast_collate
from timm.data.transforms_factory import create_transform

from backbone.classification.data.augment import TrainTransform
from backbone.classification.data.dataset import ClassificationDataset, collate
from backbone.classification.data.index import FileIndex
from compound.data.sampler import Draw
from peers.side_by_side import Row, compared, interleaved

Collate = Callable[[list[Any]], Any]

BATCH = 32
POLICY = "rand-m10-n2"
# Side in pixels, policy, and the ratio that is asked for.
CASES = ((224, None, 2.0), (128, None, 3.0), (224, POLICY, 2.0), (128, POLICY, 3.0))
QUALITY = 90


def measure(device: str) -> Iterator[Row]:
    """Yield a row for each size and policy; loading is the processor's."""
    if device != "cpu":
        return
    with tempfile.TemporaryDirectory() as folder:
        draw_photographs(Path(folder) / "drawn", count=BATCH, size=(375, 500), kilobytes=110)
        yield from _rows(Path(folder), "drawn", CASES)
    if "COMPOUND_DATA" in os.environ:
        root = Path(os.environ["COMPOUND_DATA"], "data/imagenet250")
        yield from _rows(root, "images", [(size, policy, None) for size, policy, _ in CASES])


def draw_photographs(folder: Path, *, count: int, size: tuple[int, int], kilobytes: int) -> None:
    """Write pictures of noise whose amplitude falls with frequency, all equally large as files."""
    folder.mkdir()
    height, width = size
    down, across = np.fft.fftfreq(height)[:, None, None], np.fft.rfftfreq(width)[:, None]
    spectrum = 1 / np.maximum(np.hypot(down, across), 1 / width)
    for i in range(count):
        white = np.random.default_rng(i).standard_normal((height, width, 3))
        noise = np.fft.irfft2(np.fft.rfft2(white, axes=(0, 1)) * spectrum, size, axes=(0, 1))
        noise = noise @ np.array([[1.0, 1, 1], [0.2, 0, -0.2], [-0.1, 0.2, -0.1]])
        noise /= noise.std()
        low, high = 1.0, 400.0
        content = b""
        while high - low > 1:
            contrast = (low + high) / 2
            content = _encoded((128 + contrast * noise).clip(0, 255).astype(np.uint8))
            low, high = (contrast, high) if len(content) < 1000 * kilobytes else (low, contrast)
        (folder / f"{i:03d}.jpg").write_bytes(content)


def in_turns(ours: Any, collate: Collate, theirs: Any, their_collate: Collate,
             *, what: str, against: str, batches: int, asked: float | None) -> Row:  # fmt: skip
    """Return the images a second of two data sets and their collate functions, with one thread."""

    def batch(i: int) -> Any:
        numbers = range(i * BATCH, (i + 1) * BATCH)
        return collate([ours[Draw(number % len(ours), number)] for number in numbers])

    def their_batch(i: int) -> Any:
        numbers = range(i * BATCH, (i + 1) * BATCH)
        return their_collate([theirs[number % len(theirs)] for number in numbers])

    def all_batches(way: Callable[[int], Any]) -> None:
        for i in range(batches):
            way(i)

    shapes = batch(0).images.shape, their_batch(0)[0].shape
    assert shapes[0] == shapes[1], shapes
    assert len(ours) == len(theirs), (len(ours), len(theirs))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    times = interleaved(
        {"ours": partial(all_batches, batch), "theirs": partial(all_batches, their_batch)}, rounds=7
    )
    torch.set_num_threads(threads)
    speeds = {name: [1000 * batches * BATCH / t for t in times[name]] for name in times}
    return compared(
        speeds, "ours", "theirs",
        what=what, against=against, unit="img/s", asked=asked, larger_is_better=True,
    )  # fmt: skip


def _rows(root: Path, name: str, cases: Any) -> Iterator[Row]:
    files = sorted(file.name for file in (root / name).iterdir())
    index = FileIndex(root / name, np.array(files), np.zeros(len(files), np.int64), ("one",))
    for size, policy, asked in cases:
        ours = ClassificationDataset(
            index, TrainTransform(size, interpolation="bicubic", policy=policy)
        )
        transform = create_transform(
            size, is_training=True, auto_augment=policy, interpolation="bicubic",
            color_jitter=None,  # pyright: ignore[reportArgumentType]  timm's word for none
            use_prefetcher=True,
        )  # fmt: skip
        peer = ImageDataset(root, reader="folder", class_map={name: 0}, transform=transform)
        what = f"{name} pictures, {size} x {size}, {policy or 'no policy'}"
        yield in_turns(
            ours, collate, peer, fast_collate, what=what, against="timm", batches=4, asked=asked
        )


def _encoded(image: np.ndarray) -> bytes:
    settings = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    return cv2.imencode(".jpg", image, settings)[1].tobytes()

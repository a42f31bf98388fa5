"""Opening an annotation file of COCO's size.

118,000 pictures and 860,000 boxes with polygons, about 450 MB as COCO's own training file, drawn by
a seed; against `pycocotools.coco.COCO`, which keeps the polygons that ours has no use for. Each
time is of a process of its own, without its imports. Memory held is what the process has more than
before, once all is read; a worker's growth is the memory of its own that a forked process has more
after reading every box.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from peers.side_by_side import Row, compared

NUM_PICTURES, NUM_CLASSES = 118_000, 80
BOXES_A_PICTURE = 860 / 118
POLYGONS = 5_000  # different ones; their text is what takes the time, not their variety
ROUNDS = 3
MOST_GROWTH = 20.0  # MB
PEER = "pycocotools' COCO"

# Seconds; megabytes held, at the peak, and that a worker grows by.
Opening = dict[str, float]

# What both ways share: ``opened`` is what they hold, ``visit`` reads all boxes as a worker would.
MEASURED = """
import gc, json, os, sys, time
def own(field, file="status"):
    lines = open(f"/proc/self/{file}").read().splitlines()
    return sum(int(x.split()[1]) for x in lines if x.startswith(field)) / 1000
gc.collect()
before = own("VmRSS")
began = time.perf_counter()
opened = open_file(*sys.argv[2:])
seconds = time.perf_counter() - began
gc.collect()
found = {"s": seconds, "held": own("VmRSS") - before, "peak": own("VmHWM") - before}
reader, writer = os.pipe()
if os.fork() == 0:
    first = own("Private", "smaps_rollup")
    assert visit(opened) > 0.95 * int(sys.argv[1])  # a hundredth are crowds
    os.write(writer, str(own("Private", "smaps_rollup") - first).encode())
    os._exit(0)
os.close(writer)  # or a child that fails would be waited for
found["growth"] = float(os.read(reader, 64))
print(json.dumps(found))
"""
OURS = """
from functools import partial
from pathlib import Path
from efficientdet.data.coco import read_coco
from efficientdet.data.store import stored
def open_file(file, pictures, cache):
    return stored(read_coco, Path(file), Path(pictures), cache_dir=Path(cache))
def visit(index):
    return sum(len(index.boxes[index.rows(i)].copy()) for i in range(len(index)))
"""
THEIRS = """
from pycocotools.coco import COCO
def open_file(file, pictures, cache):
    return COCO(file)
def visit(coco):
    ids = coco.getImgIds()
    return sum(len([a["bbox"] for a in coco.imgToAnns[i]]) for i in ids)
"""


def measure(device: str) -> Iterator[Row]:
    """Yield rows for the first opening, the ones after it, and the memory."""
    if device != "cpu":
        return
    first, cached, theirs = open_in_turns(NUM_PICTURES, rounds=ROUNDS)
    size = f"{round(NUM_PICTURES * BOXES_A_PICTURE / 1000)}k boxes"
    yield _row("s", first, theirs, what=f"{size}, first time", asked=1.5)
    yield _row("s", cached, theirs, what=f"{size}, from the cache", asked=20)
    yield _row("held", first, theirs, what="memory held, first time", asked=15)
    yield _row("held", cached, theirs, what="memory held, from the cache", asked=15)
    yield _row("peak", first, theirs, what="memory at its peak, first time")
    for name, ours in (("first time", first), ("from the cache", cached)):
        growth = [one["growth"] for one in ours]
        yield Row(
            f"growth of a worker, {name}", "the limit", "MB",
            max(median(growth), 0.1), MOST_GROWTH, 1, all_ours=growth,
        )  # fmt: skip
    growth = [one["growth"] for one in theirs]
    print(f"growth of a worker of {PEER}: {median(growth):.0f} MB")


def open_in_turns(num_pictures: int, *, rounds: int) -> tuple[list[Opening], ...]:
    """Return what it takes ours the first time, ours from its cache, and the peer."""
    with tempfile.TemporaryDirectory() as folder:
        file, pictures = write_annotations(Path(folder), num_pictures)
        boxes = str(round(num_pictures * BOXES_A_PICTURE))
        first, cached, theirs = [], [], []
        for turn in range(rounds):
            arguments = (boxes, str(file), str(pictures), str(Path(folder) / f"cache{turn}"))
            first.append(_opened(OURS, *arguments))
            cached.append(_opened(OURS, *arguments))
            theirs.append(_opened(THEIRS, *arguments))
    return first, cached, theirs


def _opened(way: str, *arguments: str) -> Opening:
    command = [sys.executable, "-c", way + MEASURED, *arguments]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(text.splitlines()[-1])


def _row(
    key: str,
    ours: list[Opening],
    theirs: list[Opening],
    *,
    what: str,
    asked: float | None = None,
) -> Row:
    measured = {
        name: [one[key] for one in ways] for name, ways in (("ours", ours), ("theirs", theirs))
    }
    unit = "s" if key == "s" else "MB"
    return compared(measured, "ours", "theirs", what=what, against=PEER, unit=unit, asked=asked)


def write_annotations(folder: Path, num_pictures: int) -> tuple[Path, Path]:
    """Write the file, and the few pictures that are looked for; return it and their folder."""
    rng = np.random.default_rng(0)
    pictures = folder / "train2017"
    pictures.mkdir()
    ids = np.sort(rng.choice(600_000, num_pictures, replace=False)).tolist()
    for image_id in ids[:8]:
        (pictures / f"{image_id:012}.jpg").touch()
    images: list[dict[str, Any]] = [
        {
            "license": 3, "file_name": f"{i:012}.jpg", "height": 480, "width": 640, "id": i,
            "coco_url": f"http://images.cocodataset.org/train2017/{i:012}.jpg",
            "date_captured": "2013-11-14 11:18:45",
            "flickr_url": f"http://farm9.staticflickr.com/8186/{i:012}_ab12cd34ef_z.jpg",
        }
        for i in ids
    ]  # fmt: skip
    categories = [
        {"supercategory": "thing", "id": i, "name": f"class {i}"} for i in _category_ids()
    ]
    file = folder / "instances_train2017.json"
    with file.open("w") as text:
        text.write(f'{{"info": {{}}, "images": {json.dumps(images)}, "annotations": [')
        text.writelines(_annotations(rng, ids))
        text.write(f'], "categories": {json.dumps(categories)}}}')
    return file, pictures


def _category_ids() -> list[int]:
    """Return 80 ids with holes, as COCO's."""
    return [i for i in range(1, 91) if i % 9][:NUM_CLASSES]


def _annotations(rng: np.random.Generator, ids: list[int]) -> Iterator[str]:
    polygons = [
        json.dumps([rng.uniform(0, 600, rng.integers(10, 80)).round(2).tolist()])
        for _ in range(POLYGONS)
    ]
    count = round(len(ids) * BOXES_A_PICTURE)
    owners = rng.choice(ids, count).tolist()
    categories = rng.choice(_category_ids(), count).tolist()
    shape = rng.integers(POLYGONS, size=count).tolist()
    corner, side = rng.uniform(0, 300, (count, 2)), rng.uniform(4, 150, (count, 2))
    boxes = np.concatenate([corner, side], 1).round(2).tolist()
    crowds = (rng.random(count) < 0.01).astype(int).tolist()
    for i, box in enumerate(boxes):
        area = 0.6 * box[2] * box[3]
        comma = ", " if i else ""
        yield (
            f'{comma}{{"segmentation": {polygons[shape[i]]}, "area": {area}, "iscrowd": '
            f'{crowds[i]}, "image_id": {owners[i]}, "bbox": {box}, "category_id": {categories[i]}, '
            f'"id": {i + 1}}}'
        )

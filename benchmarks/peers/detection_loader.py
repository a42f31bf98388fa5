"""Loading pictures for a detection training.

JPEG of 640 x 480 with 8 boxes to jittered, flipped crops of 512 x 512, uint8, in batches of 32, by
one thread: what a data set and its collate function do, against effdet's `DetectionDatset`,
`transforms_coco_train` and `DetectionFastCollate`. Ours shrinks without antialiasing, as the
official code does, effdet with it, bilinearly (the official interpolation) or, as it does by
default, at random bicubically. The pictures are noise with the spectrum of photographs, as large in
bytes as COCO's; with ``COMPOUND_DATA`` also those of COCO's validation.
"""

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import albumentations as A
import numpy as np
from effdet.data.dataset import DetectionDatset
from effdet.data.loader import DetectionFastCollate
from effdet.data.parsers import CocoParserCfg, create_parser
from effdet.data.transforms import transforms_coco_train

from efficientdet.data.augment import Augment
from efficientdet.data.coco import read_coco
from efficientdet.data.dataset import DetectionDataset, collate
from peers.classification_loader import BATCH, draw_photographs, in_turns
from peers.side_by_side import Row

SIZE = 512
NUM_BOXES = 8
SCALE = (0.1, 2.0)


def measure(device: str) -> Iterator[Row]:
    """Yield rows of drawn and of real pictures; loading is the processor's."""
    if device != "cpu":
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        draw_photographs(root / "drawn", count=BATCH, size=(480, 640), kilobytes=160)
        _annotate(root)
        for interpolation in ("bilinear", "random"):
            yield _row("drawn pictures", root / "boxes.json", root / "drawn", interpolation, 2.0)
    if "COMPOUND_DATA" in os.environ:
        root = Path(os.environ["COMPOUND_DATA"], "data/coco")
        annotations = root / "annotations/instances_val2017.json"
        yield _row("COCO's pictures", annotations, root / "val2017", "bilinear", None)


def _row(
    what: str, annotations: Path, folder: Path, interpolation: str, asked: float | None
) -> Row:
    augment = Augment((SIZE, SIZE), scale=SCALE, transforms=[A.HorizontalFlip(p=0.5)])
    ours = DetectionDataset(read_coco(annotations, folder), augment)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools'
        parser = create_parser("coco", cfg=CocoParserCfg(ann_filename=str(annotations)))
    transform = transforms_coco_train(SIZE, interpolation=interpolation, use_prefetcher=True)
    peer = DetectionDatset(folder, parser=parser, transform=transform)
    return in_turns(
        ours, collate, peer, DetectionFastCollate(),
        what=what, against=f"effdet, {interpolation}", batches=3, asked=asked,
    )  # fmt: skip


def _annotate(root: Path) -> None:
    """Write a COCO file with boxes from 20 to 200 pixels long."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i, path in enumerate(sorted((root / "drawn").iterdir()), 1):
        images.append({"id": i, "file_name": path.name, "width": 640, "height": 480})
        for _ in range(NUM_BOXES):
            width, height = rng.uniform(20, 200, 2).tolist()
            left, top = rng.uniform(0, [640 - width, 480 - height]).tolist()
            annotations.append({
                "id": len(annotations) + 1, "image_id": i, "category_id": 1, "iscrowd": 0,
                "bbox": [left, top, width, height], "area": width * height,
            })  # fmt: skip
    content = {
        "images": images, "annotations": annotations, "categories": [{"id": 1, "name": "noise"}],
    }  # fmt: skip
    (root / "boxes.json").write_text(json.dumps(content))

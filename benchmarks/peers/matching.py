"""Matching anchors and objects.

A batch of 8 at 512 x 512, D0's anchors, against effdet's `AnchorLabeler`; both find the same
positives with the same labels and codes.
"""

from collections.abc import Iterator
from typing import Any

import torch
from effdet.anchors import AnchorLabeler, Anchors
from torch import Tensor

from efficientdet import EFFICIENTDET
from efficientdet.anchors import make_anchors
from efficientdet.matcher import assign
from peers.side_by_side import Row, compared, interleaved, random_boxes

BATCH, SIZE, NUM_CLASSES = 8, 512, 90


def measure(device: str) -> Iterator[Row]:
    """Yield a row for few and for many objects."""
    spec = EFFICIENTDET["efficientdet_d0"]
    anchors = make_anchors(
        (SIZE, SIZE),
        spec.levels,
        scale=spec.anchor_scale,
        aspects="rounded",
        device=torch.device(device),
    )
    peer = Anchors(3, 7, 3, [(1.0, 1.0), (1.4, 0.7), (0.7, 1.4)], 4.0, (SIZE, SIZE)).to(device)
    labeler = AnchorLabeler(peer, NUM_CLASSES, match_threshold=0.5)
    for count in (8, 100):
        boxes, labels = objects(count, device)
        boxes_yxyx = [b[:, [1, 0, 3, 2]] for b in boxes]
        plus_one = [label + 1 for label in labels]
        found = assign(anchors, boxes, labels)
        _check(found.labels, labeler.batch_label_anchors(boxes_yxyx, plus_one))
        times = interleaved(
            {
                "ours": lambda b=boxes, y=labels: assign(anchors, b, y),
                "effdet": lambda b=boxes_yxyx, y=plus_one: labeler.batch_label_anchors(b, y),
            },
            rounds=20,
            device=device,
        )
        yield compared(
            times, "ours", "effdet",
            what=f"{count} boxes a picture", against="effdet's labeler", asked=3,
        )  # fmt: skip


def objects(count: int, device: str) -> tuple[list[Tensor], list[Tensor]]:
    """Return boxes from 16 to 256 pixels long, and their labels."""
    generator = torch.Generator().manual_seed(count)
    boxes, labels = [], []
    for _ in range(BATCH):
        boxes.append(random_boxes(count, SIZE, generator).to(device))
        labels.append(torch.randint(NUM_CLASSES, (count,), generator=generator).to(device))
    return boxes, labels


def _check(labels: Tensor, theirs: Any) -> None:
    """Make sure that both found the same."""
    classes = torch.cat([level.reshape(BATCH, -1) for level in theirs[0]], 1)
    assert int(theirs[2].sum()) == len(labels)
    assert torch.equal(classes[classes >= 0], labels)

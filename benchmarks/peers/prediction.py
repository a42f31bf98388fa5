"""Prediction with D0 at 512 x 512, one picture at a time.

Both networks have the same weights, tensors are channels-last and in 32 bits. effdet's is its eager
network, its prediction `DetBenchPredict`; ours is measured eager and after ``model.optimize()``.
Random weights give 4.4 million scores near 0.01, the worst case of post-processing; the scores of
real pictures come from Lite0 with the weights for COCO, at 512 x 512 too, whose levels and classes
are D0's. `COMPOUND_DATA` names the folder with both.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import effdet
import torch
from parity_detectors import effdet_network, with_weights_of
from torch import Tensor

from compound.data.images import read_picture
from efficientdet import EfficientDet, create_model
from peers.side_by_side import Row, compared, interleaved

SIZE = 512
WEIGHTS = "weights/efficientdet_lite0.effdet.pth"
PICTURES = "data/coco/val2017"


def measure(device: str) -> Iterator[Row]:
    """Yield rows of the network alone and of the whole."""
    theirs = effdet_network("efficientdet_d0", (SIZE, SIZE))
    ours = with_weights_of("efficientdet_d0", theirs.state_dict())
    pictures = torch.randint(0, 256, (1, 3, SIZE, SIZE), dtype=torch.uint8)
    yield from _rows("D0, random scores", ours, theirs, pictures, device)
    folder = os.environ.get("COMPOUND_DATA")
    if folder and Path(folder, WEIGHTS).is_file():
        state = torch.load(Path(folder, WEIGHTS), weights_only=True)
        config: Any = effdet.get_efficientdet_config("tf_efficientdet_lite0")
        config.image_size = (SIZE, SIZE)
        theirs = effdet.EfficientDet(config, pretrained_backbone=False).eval()
        theirs.load_state_dict(state)
        ours = create_model("efficientdet_lite0", weights=Path(folder, WEIGHTS)).eval()
        file = sorted(Path(folder, PICTURES).glob("*.jpg"))[0]
        picture = cv2.resize(read_picture(file), (SIZE, SIZE))
        pictures = torch.from_numpy(picture).permute(2, 0, 1)[None]
        yield from _rows("Lite0, real scores", ours, theirs, pictures, device)


def _rows(
    name: str, ours: EfficientDet, theirs: Any, pictures: Tensor, device: str
) -> Iterator[Row]:
    channels_last: Any = {"memory_format": torch.channels_last, "device": device}
    ours.to(**channels_last)
    theirs.to(**channels_last)
    bench = effdet.DetBenchPredict(theirs).to(device)
    pictures = pictures.to(**channels_last)
    images = ours.normalize(pictures).to(**channels_last)
    fast = ours.optimize(SIZE)
    if device == "cpu" and fast.runtime == "eager":
        raise SystemExit("no engine won, or none is installed: uv sync --extra runtimes")
    rounds = 30 if device == "cuda" else 10
    with torch.inference_mode():
        _check(ours.predict(pictures), fast.predict(pictures), bench(images)[0])
        alone = interleaved(
            {
                "eager": lambda: ours(images),
                "optimized": lambda: fast(images),
                "effdet": lambda: theirs(images),
            },
            rounds=rounds,
            device=device,
        )
        whole = interleaved(
            {
                "eager": lambda: ours.predict(pictures),
                "optimized": lambda: fast.predict(pictures),
                "effdet": lambda: bench(images),
            },
            rounds=rounds,
            device=device,
        )
    aims = {"eager": (1.2, None), "optimized": (2.5, 6.0 if device == "cpu" else 5.0)}
    yield from _compared(name, alone, whole, aims, {"eager": "eager", "optimized": fast.runtime})


def _compared(
    name: str,
    alone: Mapping[str, list[float]],
    whole: Mapping[str, list[float]],
    aims: Mapping[str, tuple[float | None, float | None]],
    titles: Mapping[str, str | None],
) -> Iterator[Row]:
    for way, (alone_aim, whole_aim) in aims.items():
        yield compared(
            alone, way, "effdet",
            what=f"{name}: network alone, {titles[way]}",
            against="effdet's, eager", asked=alone_aim,
        )  # fmt: skip
        yield compared(
            whole, way, "effdet",
            what=f"{name}: prediction, {titles[way]}", against="DetBenchPredict", asked=whole_aim,
        )  # fmt: skip


def _check(ours: Any, fast: Any, theirs: Tensor) -> None:
    """Make sure that all three find the same scores."""
    count = 20  # further down rounding decides what suppresses what
    for found in (ours, fast):
        torch.testing.assert_close(found[0].scores[:count], theirs[:count, 4], atol=2e-3, rtol=2e-3)

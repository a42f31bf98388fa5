"""How close each detector is to effdet's and to the official one under the same weights.

`benchmarks/parity.py` runs this and writes what it finds. Every detector gets effdet's random
weights, norms' statistics and fusion weights too, through a file and our loader; then class
logits and box codes of every level are compared, at a square and at an odd rectangular size.
"""

import tempfile
from pathlib import Path
from typing import Any

import effdet
import numpy as np
import torch
from torch import Tensor, nn

from efficientdet import EFFICIENTDET, EfficientDet, create_model

# The second is odd on one side and of no multiple of 128 on both.
SIZES = ((128, 128), (130, 205))
DETECTORS = tuple(EFFICIENTDET)
OFFICIAL = {"efficientdet_d0": ("b1_128x128", "b1_192x320_odd", "b2_256x256")}


def against_effdet(name: str) -> float:
    """Return the largest relative difference of a detector's outputs to effdet's."""
    worst = 0.0
    for size in SIZES:
        theirs = effdet_network(name, size)
        images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            wanted = theirs(images)
        worst = max(worst, _largest(with_weights_of(name, theirs.state_dict()), images, wanted))
    return worst


def against_official(name: str, folder: Path, case: str) -> float:
    """Return the largest relative difference to recorded outputs of the official code.

    Args:
        name: of the detector, one of `OFFICIAL`.
        folder: with the checkpoint in ``ckpt`` and a folder a case.
        case: name of the case's folder.
    """
    model = create_model(name, weights=folder / "ckpt").eval()
    images = torch.from_numpy(np.load(folder / case / "input.npy")).permute(0, 3, 1, 2)
    with np.load(folder / case / "outputs_ema.npz") as recorded:
        wanted = tuple(
            [torch.from_numpy(recorded[f"{kind}_{i}"]).permute(0, 3, 1, 2) for i in range(3, 8)]
            for kind in ("cls", "box")
        )
    return _largest(model, images, wanted)


def effdet_network(name: str, size: tuple[int, int]) -> Any:
    """Return effdet's network for pictures of one size, with random weights."""
    config = effdet.get_efficientdet_config(f"tf_{name}")
    config.image_size = size
    torch.manual_seed(0)
    model = effdet.EfficientDet(config, pretrained_backbone=False).eval()
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.2)
        nn.init.normal_(norm.running_mean, std=0.2)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("edge_weights"):
            nn.init.uniform_(parameter, -0.5, 2.0)
    return model


def with_weights_of(name: str, theirs: dict[str, Tensor]) -> EfficientDet:
    """Return our detector with effdet's weights, through a file and our loader."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "theirs.pth")
        torch.save(theirs, path)
        return create_model(name, weights=path).eval()


def _largest(model: EfficientDet, images: Tensor, wanted: Any) -> float:
    with torch.inference_mode():
        found = model(images)
    worst = 0.0
    for ours, theirs in zip(found, wanted, strict=True):
        for x, y in zip(ours, theirs, strict=True):
            assert x.shape == y.shape, (x.shape, y.shape)
            assert y.isfinite().all()
            # The prior bias would hide differences of the class logits.
            spread = (y - y.mean()).abs().max()
            assert spread > 0
            worst = max(worst, ((x - y).abs().max() / spread).item())
    return worst

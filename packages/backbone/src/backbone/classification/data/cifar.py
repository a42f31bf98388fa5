"""CIFAR-10 and CIFAR-100, read and fetched by torchvision."""

from pathlib import Path
from typing import Literal

import numpy as np
from torchvision.datasets import CIFAR10, CIFAR100

from backbone.classification.data.index import ArrayIndex, ImageIndex, hold_out
from compound.errors import UserError


def cifar_splits(
    root: str | Path, *, num_classes: Literal[10, 100], val_fraction: float = 0.1, seed: int = 0
) -> dict[str, ImageIndex]:
    """Read CIFAR in the official layout, downloading it if it is not there.

    Args:
        root: the folder that holds ``cifar-10-batches-py`` or ``cifar-100-python``.
        num_classes: 10, or 100 for the fine labels of CIFAR-100.
        val_fraction: share of the training pictures that is held out for validation.
        seed: chooses what is held out.

    Raises:
        UserError: it is not there and cannot be downloaded, or there is no such CIFAR.
    """
    if num_classes not in (10, 100):
        raise UserError(f"data.read.num_classes={num_classes}: CIFAR has 10 or 100")
    source = CIFAR10 if num_classes == 10 else CIFAR100
    root = Path(root).expanduser()
    try:
        parts = {train: source(root, train=train, download=True) for train in (True, False)}
    except Exception as error:  # urllib's, tarfile's or the OS's
        raise UserError(
            f"data.root={root} holds no whole {source.base_folder}, and it could not be fetched "
            f"({error}); download {source.url} and put it there"
        ) from error
    learnt, test = (
        ArrayIndex(part.data, np.array(part.targets, np.int64), tuple(part.classes))
        for part in (parts[True], parts[False])
    )
    train, val = hold_out(learnt, val_fraction, seed=seed)
    return {"train": train, "val": val, "test": test}

"""The images of a data set on which exports are compared with PyTorch, and calibrated."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from compound.errors import UserError

# Arguments of a data module whose loaders need no processes of their own: the images are few.
ONE_BY_ONE: dict[str, Any] = {"batch_size": 1, "num_workers": 0}


def compared_rows(data: Any, settings: Any) -> np.ndarray:
    """Return the positions of the images that are compared, increasing.

    They are drawn from the whole split, as folders are in order of their classes; those on which
    int8 is calibrated are others.

    Args:
        data: the data module.
        settings: of the verb ``export``.
    """
    same = settings["calibration_split"] == settings["split"]
    first = settings["calibration"] if same else 0
    return np.sort(_order(data, settings["split"])[first : first + settings["pictures"]])


def compared_batches(data: Any, settings: Any) -> Iterator[Any]:
    """Yield the compared images one by one, as in evaluation.

    Raises:
        UserError: one cannot be read.
    """
    yield from _batches(data, settings["split"], compared_rows(data, settings))


def calibration_images(data: Any, settings: Any) -> Iterator[np.ndarray]:
    """Yield the images on which int8 is calibrated, ``(1, C, H, W)`` uint8."""
    split = settings["calibration_split"]
    rows = np.sort(_order(data, split)[: settings["calibration"]])
    for batch in _batches(data, split, rows):
        yield batch.images.contiguous().numpy()


def labels_among(names: Sequence[str], known: bool, wanted: Sequence[str]) -> np.ndarray | None:
    """Return each class's label among ``wanted``, -1 without one; None if some are not known.

    Args:
        names: the network's classes.
        known: whether the weights say so; else they are those of a data set that has as many.
        wanted: the data set's classes.
    """
    if not known and len(names) == len(wanted):
        return np.arange(len(names))
    if not set(wanted) <= set(names):
        return None
    labels = {name: label for label, name in enumerate(wanted)}
    return np.array([labels.get(name, -1) for name in names])


def _order(data: Any, split: str) -> np.ndarray:
    return np.random.default_rng(0).permutation(data.num_pictures(split))


def _batches(data: Any, split: str, rows: np.ndarray) -> Iterator[Any]:
    whole = data.whole(split)
    draws = list(whole.sampler)
    chosen: Any = [draws[row] for row in rows.tolist()]
    for batch in DataLoader(whole.dataset, 1, sampler=chosen, collate_fn=whole.collate_fn):
        if batch.unreadable:
            raise UserError(f"data: {batch.unreadable[0]}; mend it or take it out")
        yield batch

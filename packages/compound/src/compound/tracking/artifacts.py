"""What a W&B run was made from, and what it made: its data set and its weights, as artifacts."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import wandb
from pytorch_lightning.loggers import WandbLogger
from torch import Tensor

from compound.data.loader import EpochData
from compound.weights import read_file, save_weights

# W&B shows metadata in full; a longer list of classes is in the artifact's file only.
_MOST_SHOWN_CLASSES = 100


def use_data(logger: WandbLogger, data: EpochData, *, name: str, root: str | Path | None) -> None:
    """Note the data set as an input of the run: a new version where anything in it has changed.

    The artifact refers to the data set's folder and holds a description of it; no picture is read
    or uploaded. A reference by ``file://`` would be to each of a folder's files, of which there
    may be millions.

    Args:
        logger: of the run.
        data: the data module.
        name: the data set's, to which its folder's is added.
        root: the folder, if there is one.
    """
    folder = None if root is None else Path(root).expanduser().absolute()
    described = describe(data)
    shown = {key: value for key, value in described.items() if key != "class_names"}
    if len(described["class_names"]) <= _MOST_SHOWN_CLASSES:
        shown["class_names"] = described["class_names"]
    called = name if folder is None or folder.name == name else f"{name}-{folder.name}"
    called = re.sub(r"[^A-Za-z0-9_.-]+", "-", called)
    artifact = wandb.Artifact(called, type="dataset", metadata=shown)
    with artifact.new_file("dataset.json", encoding="utf-8") as file:
        json.dump(described, file, indent=2)
    if folder is not None:
        artifact.add_reference(f"folder://{folder.as_posix()}", name="folder")
    # What `use_artifact` does, without its waiting for the server; offline it would refuse.
    logger.experiment._log_artifact(artifact, is_user_created=True, use_after_commit=True)


def describe(data: EpochData) -> dict[str, Any]:
    """Return the classes, and of each split what it counts and a hash of its arrays."""
    return {
        "class_names": list(data.class_names),
        "splits": {
            split: {**data.counts(split), "fingerprint": _fingerprint(index)}
            for split, index in data.splits.items()
        },
    }


def _fingerprint(index: Any) -> str:
    """Return a hash of an index, of all its arrays if it is a dataclass."""
    content = hashlib.blake2b(digest_size=16)
    if not dataclasses.is_dataclass(index):
        content.update(repr(index).encode())
        return content.hexdigest()
    for name in sorted(field.name for field in dataclasses.fields(index)):
        array = getattr(index, name)
        if isinstance(array, np.ndarray):
            content.update(f"{name} {array.dtype} {array.shape}".encode())
            content.update(array.tobytes())
    return content.hexdigest()


def log_weights(
    logger: WandbLogger, checkpoints: Mapping[str, Path], metadata: Mapping[str, Any]
) -> None:
    """Write checkpoints' networks as ``.safetensors``; log them as versions of one model.

    Args:
        logger: of the run.
        checkpoints: by their alias, ``best`` or ``last``. Where they hold the same network, it is
            one version with both.
        metadata: what is noted with all of them.
    """
    run = logger.experiment
    contents = {alias: read_file(path) for alias, path in sorted(checkpoints.items())}
    files = {alias: checkpoints[alias].with_suffix(".safetensors") for alias in contents}
    first, last = next(iter(contents.values())), list(contents.values())[-1]
    groups = [[alias] for alias in files]
    if len(contents) == 2 and _equal(first.tensors, last.tensors):
        groups = [list(files)]
        contents = dict.fromkeys(contents, first)  # best.ckpt's, which knows its score
    for alias, content in contents.items():
        save_weights(files[alias], content.tensors, content.metadata)
    name = str(first.name)
    for aliases in groups:
        of_it = {"epoch": _epoch(checkpoints[aliases[0]])}
        # Of a run's own, so that no other run takes its aliases.
        artifact = wandb.Artifact(f"{name}-{run.id}", type="model", metadata={**metadata, **of_it})
        artifact.add_file(str(files[aliases[0]]), name="model.safetensors", policy="immutable")
        run.log_artifact(artifact, aliases=aliases)


def _equal(some: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(value, others[name]) for name, value in some.items())


def _epoch(checkpoint: Path) -> int:
    content = torch.load(checkpoint, map_location="meta", weights_only=True, mmap=True)
    return content["epoch"] + 1

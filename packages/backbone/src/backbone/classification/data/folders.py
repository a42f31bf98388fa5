"""Image folders: one folder a class, with or without a validation folder; or a list of labels."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from backbone.classification.data.index import FileIndex, ImageIndex, hold_out
from compound.data.images import EXTENSIONS
from compound.errors import UserError


def folder_splits(
    root: str | Path,
    *,
    train: str = "train",
    val: str = "val",
    test: str | None = "test",
    val_fraction: float = 0.1,
    seed: int = 0,
) -> dict[str, ImageIndex]:
    """Read a folder of pictures.

    - ``root/train/<class>/``, and ``val`` and ``test`` beside it if they are there;
    - ``root/<class>/`` alone;
    - ``root/labels.json``, which maps file names in ``root/images`` to class indices, with the
      classes' names in ``root/synsets.txt``: for evaluation only.

    Without a validation folder a part of every class is held out. Classes are in the order of
    their names, which for ImageNet's synsets is the official one.

    Args:
        root: the folder.
        train: name of the training folder.
        val: name of the validation folder; ``valid`` and ``validation`` are tried as well.
        test: name of the test folder; None for none.
        val_fraction: the share that is held out, in (0, 1).
        seed: chooses what is held out.

    Raises:
        UserError: something is missing, empty, or of a class that the training lacks.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise UserError(f"data.root={root}: there is no such folder")
    if (root / "labels.json").is_file():
        return {"val": _read_list(root)}
    held_out = next((n for n in (val, "valid", "validation") if _folders(root / n)), None)
    tested = test if test is not None and _folders(root / test) else None
    if not (root / train).is_dir() and (aside := held_out or tested):
        raise UserError(f"{root} holds {aside}, but no {train} beside it; see data.read")
    learnt = _read_classes(root / train if (root / train).is_dir() else root)
    others = {
        split: _read_classes(root / name, class_names=learnt.class_names)
        for split, name in (("val", held_out), ("test", tested))
        if name is not None
    }
    if "val" in others:
        return {"train": learnt, **others}
    rest, held = hold_out(learnt, val_fraction, seed=seed)
    return {"train": rest, "val": held, **others}


def _read_classes(root: Path, *, class_names: Sequence[str] | None = None) -> FileIndex:
    """Read class folders: all of them, or those of ``class_names``, of which some may lack."""
    found = _folders(root)
    learnt = class_names is None
    if class_names is None:
        class_names = found
        if len(found) < 2:
            raise UserError(
                f"{root} holds {f'one class folder, {found[0]}' if found else 'no class folder'}; "
                "expected a folder for each of two classes or more"
            )
    elif unknown := [name for name in found if name not in class_names]:
        raise UserError(
            f"{root / unknown[0]}: the training folder has no class of that name; rename the "
            "folder, remove it, or add the class to the training"
        )
    file_names, labels = [], []
    for label, name in enumerate(class_names):
        files = sorted(_files(root / name, name)) if name in found else []
        if learnt and not files:
            raise UserError(
                f"{root / name} holds no picture ({', '.join(EXTENSIONS)}); remove the folder or "
                "fill it"
            )
        file_names += files
        labels += [label] * len(files)
    if not file_names:
        raise UserError(f"{root} holds no pictures in its class folders; fill or remove it")
    return FileIndex(root, np.array(file_names), np.array(labels, np.int64), tuple(class_names))


def _folders(root: Path) -> list[str]:
    """Return the sorted names of the folders in a folder, if it is one, other than hidden ones."""
    if not root.is_dir():
        return []
    return sorted(e.name for e in os.scandir(root) if e.is_dir() and not e.name.startswith("."))


def _files(folder: Path, prefix: str) -> Iterator[str]:
    """Yield pictures in a folder and below, relative to the split; hidden ones are passed over."""
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _files(folder / entry.name, f"{prefix}/{entry.name}")
        elif entry.name.lower().endswith(EXTENSIONS):
            yield f"{prefix}/{entry.name}"


def _read_list(root: Path) -> FileIndex:
    path = root / "labels.json"
    expected = f'{path}: expected file names with class indices, such as {{"a.jpg": 3}}'
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{expected}: {error}") from error
    if not isinstance(content, dict) or any(type(value) is not int for value in content.values()):
        raise UserError(expected)
    names = sorted(content)
    folder = root / "images" if (root / "images").is_dir() else root
    if not names:
        raise UserError(f"{path} lists no picture")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{path} lists {missing[0]}, but {folder / missing[0]} does not exist")
    labels = np.array([content[name] for name in names], np.int64)
    synsets = root / "synsets.txt"
    if synsets.is_file():
        class_names = tuple(synsets.read_text(encoding="utf-8").splitlines())
    else:
        class_names = tuple(str(label) for label in range(int(labels.max()) + 1))
    if labels.min() < 0 or labels.max() >= len(class_names):
        raise UserError(f"{path}: class indices must be in 0..{len(class_names) - 1}")
    return FileIndex(folder, np.array(names), labels, class_names)

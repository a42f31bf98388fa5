"""What a YOLO ``data.yaml`` says: classes, and the pictures of each split.

The keys are those of Ultralytics (https://docs.ultralytics.com/datasets/detect/).
"""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from compound.data.images import EXTENSIONS
from compound.errors import UserError

SPLITS = ("train", "val", "test")
# What annotation tools write between the label files.
NO_LABELS = ("classes.txt",)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class YoloLayout:
    """What a ``data.yaml`` says.

    Attributes:
        file: The ``data.yaml``.
        root: The folder that its paths are relative to.
        names: Class name by class id, in order of the ids; there may be holes.
        pictures: The pictures of each split.
        strays: How many label files of each split have no picture.
    """

    file: Path
    root: Path
    names: dict[int, str]
    pictures: dict[str, list[Path]]
    strays: dict[str, int]


def read_data_yaml(file: Path) -> YoloLayout:
    """Return what a ``data.yaml`` says, with the pictures found.

    Where the folder that ``path`` names does not exist, as after moving to another machine, the
    paths are relative to the file's own folder. A leading ``../`` that leads nowhere is passed
    over, as exports have it. ``test`` is left out where it does not exist or is empty.

    Raises:
        UserError: Something is missing, has another form, or leads out of the data set.
    """
    content = _load(file)
    if "kpt_shape" in content:
        raise UserError(
            f"{file}: kpt_shape says that the labels are poses; boxes and polygons are read here"
        )
    root = _root(file, content)
    names = _names(file, content)
    found: dict[str, list[Path]] = {}
    strays: dict[str, int] = {}
    for split in SPLITS:
        paths = _paths(file, root, split, content)
        if not paths:
            continue
        parts = [_list_pictures(path, root) for path in paths]
        pictures = [picture for part in parts for picture in part]
        if not pictures:
            _left_out(file, split, f"{paths[0]} holds no picture ({', '.join(EXTENSIONS)})")
            continue
        found[split] = pictures
        folders = [part for path, part in zip(paths, parts, strict=True) if path.is_dir()]
        strays[split] = _count_strays([picture for part in folders for picture in part])
    return YoloLayout(file, root, names, found, strays)


def label_file(picture: Path) -> Path:
    """Return where a picture's labels are: its last folder ``images`` becomes ``labels``.

    Without a folder of that name they are beside the picture.
    """
    parts = list(picture.parent.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts) / f"{picture.stem}.txt"


def _load(file: Path) -> dict[str, Any]:
    if not file.is_file():
        found = ", ".join(sorted(path.name for path in file.parent.glob("*.y*ml")))
        raise UserError(
            f"no file {file} (YAML files there: {found or 'none'}); name it with "
            "data.read.data_yaml=<name>, or as data.root"
        )
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        told = " ".join(str(error).split())
        raise UserError(f"{file} is not YAML ({told}); correct it") from error
    if not isinstance(content, dict):
        raise UserError(f"{file}: it holds no keys; train, val and names are needed")
    return content


def _root(file: Path, content: dict[str, Any]) -> Path:
    given = content.get("path") or "."
    if not isinstance(given, str):
        raise UserError(f"{file}: path is {given!r}; a folder is needed")
    root = _join(file.parent, given)
    return root if root.is_dir() else file.parent


def _join(folder: Path, name: str) -> Path:
    # By the text alone: a link may lead anywhere, but what is written must stay in the folder.
    return Path(os.path.normpath(folder / Path(name).expanduser()))


def _names(file: Path, content: dict[str, Any]) -> dict[int, str]:
    written = content.get("names")
    given = dict(enumerate(written)) if isinstance(written, list) else written
    if not isinstance(given, dict) or not given:
        raise UserError(
            f"{file}: names is {written!r}; a list, or a name for each class id, is needed"
        )
    for class_id, name in given.items():
        if not isinstance(class_id, int) or isinstance(class_id, bool) or class_id < 0:
            raise UserError(f"{file}: names has the class id {class_id!r}; 0 or more is needed")
        if not isinstance(name, str):
            raise UserError(f"{file}: class {class_id} is called {name!r}; put it in quotes")
    repeated = sorted(name for name in set(given.values()) if [*given.values()].count(name) > 1)
    if repeated:
        raise UserError(f"{file}: two classes are called {repeated[0]!r}; make names unique")
    count = content.get("nc", len(given))
    if count not in (len(given), max(given) + 1):
        raise UserError(f"{file}: nc is {count!r}, but names has {len(given)}; correct one")
    return dict(sorted(given.items()))


def _paths(file: Path, root: Path, split: str, content: dict[str, Any]) -> list[Path]:
    """Return the folders and lists of a split; none if there is no such split."""
    given = content.get(split)
    if not given and split == "test":
        return []
    entries = given if isinstance(given, list) else [given]
    paths = []
    for entry in entries:
        if not entry or not isinstance(entry, str):
            raise UserError(
                f"{file}: {split} is {given!r}; a folder, a list of folders, or a .txt list of "
                "pictures is needed"
            )
        path = _join(root, entry)
        if not path.exists() and entry.startswith("../"):
            path = _join(root, entry.removeprefix("../"))
        if path.is_dir() or (path.suffix == ".txt" and path.is_file()):
            paths.append(path)
        else:
            _left_out(file, split, f"{path} is neither a folder nor a .txt list")
    return paths


def _left_out(file: Path, split: str, problem: str) -> None:
    """Refuse a split, but for a test split: exports name one whether they have it or not."""
    if split != "test":
        raise UserError(f"{file}: {split} cannot be read, as {problem}; correct {split}, or path")
    log.warning("%s: test is left out, as %s", file, problem)


def _list_pictures(path: Path, root: Path) -> list[Path]:
    if path.is_dir():
        return sorted(_walk(path, EXTENSIONS))
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8 ({error}); write it anew") from error
    return [_listed(line.strip(), path, root) for line in lines if line.strip()]


def _listed(line: str, list_file: Path, root: Path) -> Path:
    picture = _join(list_file.parent, line)
    if not picture.is_file():
        picture = _join(root, line)
    if not any(picture.is_relative_to(folder) for folder in (root, list_file.parent)):
        raise UserError(f"{list_file} lists {line}, which is outside the data folder {root}")
    return picture


def _walk(folder: Path, endings: tuple[str, ...]) -> Iterator[Path]:
    """Yield files in a folder and below, also behind links; hidden ones are passed over."""
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.lower().endswith(endings) and not name.startswith("."):
                yield Path(parent, name)


def _count_strays(pictures: list[Path]) -> int:
    """Return how many label files have no picture; those beside pictures may be anything."""
    labels = {label_file(picture) for picture in pictures}
    folders = {label.parent for label in labels} - {picture.parent for picture in pictures}
    present = {
        path for folder in folders for path in folder.glob("*.txt") if path.name not in NO_LABELS
    }
    return len(present - labels)

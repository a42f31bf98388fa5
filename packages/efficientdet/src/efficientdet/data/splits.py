"""The splits of a data set, format by format: what `DetectionData` is told to read."""

from pathlib import Path

from compound.errors import UserError
from efficientdet.data.coco import read_coco
from efficientdet.data.index import AnnotationIndex
from efficientdet.data.openimages import Classes, read_openimages
from efficientdet.data.shapes import ensure_shapes
from efficientdet.data.store import stored
from efficientdet.data.voc import read_voc
from efficientdet.data.yolo import read_yolo


def coco_splits(
    root: str | Path,
    *,
    train: str = "train2017",
    val: str = "val2017",
    test: str | None = None,
    cache_dir: str | Path | None = None,
) -> dict[str, AnnotationIndex]:
    """Read COCO's official layout: ``annotations/instances_<split>.json`` and ``<split>/``.

    What large files hold is kept below ``cache_dir``, see `stored`; None keeps nothing.
    """
    root = _folder(root)
    cache = None if cache_dir is None else Path(cache_dir).expanduser()
    named = {"train": train, "val": val} | ({"test": test} if test else {})
    splits = {
        name: stored(
            read_coco,
            root / "annotations" / f"instances_{split}.json",
            root / split,
            cache_dir=cache,
        )
        for name, split in named.items()
    }
    for name, split in named.items():
        if splits[name].class_names != splits["train"].class_names:
            raise UserError(
                f"{root / 'annotations'}: the categories of {train} and {split} differ; both files "
                "must list the same ones."
            )
    return splits


def voc_splits(
    root: str | Path, *, train: str = "train", val: str = "val", test: str | None = None
) -> dict[str, AnnotationIndex]:
    """Read VOC's layout: ``Annotations/``, ``JPEGImages/`` and ``ImageSets/Main/<split>.txt``."""
    named = {"train": train, "val": val, "test": test}
    return {name: read_voc(_folder(root), split) for name, split in named.items() if split}


def yolo_splits(root: str | Path, *, data_yaml: str = "data.yaml") -> dict[str, AnnotationIndex]:
    """Read YOLO's layout: a ``data.yaml``, ``images/`` and ``labels/``.

    ``root`` is the folder with the ``data.yaml``, or that file itself, whatever its name.
    """
    file = Path(root).expanduser()
    if file.suffix not in {".yaml", ".yml"} or file.is_dir():
        file = _folder(root) / data_yaml
    return read_yolo(file)


def openimages_splits(
    root: str | Path,
    *,
    train: str = "train",
    val: str = "validation",
    test: str | None = None,
    classes: Classes = "all",
    partial: bool = False,
) -> dict[str, AnnotationIndex]:
    """Read Open Images' layout: ``<split>-annotations-bbox.csv`` and ``<split>/``."""
    named = {"train": train, "val": val, "test": test}
    splits = {name: split for name, split in named.items() if split}
    return read_openimages(_folder(root), splits, classes=classes, partial=partial)


def shapes_splits(
    cache_dir: str | Path, *, num_train: int, num_val: int, picture_size: int, seed: int
) -> dict[str, AnnotationIndex]:
    """Draw the embedded data set, unless it is there already, and read it."""
    root = ensure_shapes(
        Path(cache_dir).expanduser(),
        num_train=num_train,
        num_val=num_val,
        picture_size=picture_size,
        seed=seed,
    )
    return coco_splits(root)


def _folder(root: str | Path) -> Path:
    root = Path(root).expanduser()
    if not root.is_dir():
        raise UserError(f"data.root={root}: there is no such folder.")
    return root

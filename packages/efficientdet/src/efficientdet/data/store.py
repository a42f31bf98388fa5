"""Keeps what was read from a large annotation file, so that the next run need not read it again.

An entry is a folder of one ``.npy`` file an array and ``index.json``, below the cache folder. Its
arrays are mapped into memory, read-only: all processes share them.
"""

import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from efficientdet.data.index import AnnotationIndex, check_files

log = logging.getLogger(__name__)

VERSION = 2  # of the entries, and of what the readers make of a file
MIN_BYTES = 16 * 2**20  # smaller files are read in a moment
ARRAYS = tuple(field.name for field in fields(AnnotationIndex) if field.type is np.ndarray)
Read = Callable[[Path, Path], AnnotationIndex]


def stored(
    read: Read, annotation_file: Path, image_dir: Path, *, cache_dir: Path | None
) -> AnnotationIndex:
    """Return what ``read`` makes of a file, from the cache if it is there, else put it there.

    A file that changed is read again. A cache that cannot be written is told and done without.

    Args:
        read: takes ``annotation_file`` and ``image_dir``.
        annotation_file: the file.
        image_dir: the folder with the pictures.
        cache_dir: the cache folder, made if need be; None reads the file.

    Raises:
        UserError: ``read`` refuses the file, or the first pictures are not in ``image_dir``.
    """
    state = annotation_file.stat() if annotation_file.is_file() else None
    if cache_dir is None or state is None or state.st_size < MIN_BYTES:
        return read(annotation_file, image_dir)
    # An entry with the same source but another version is an older one.
    source = _digest(read.__qualname__, annotation_file.resolve(), image_dir.resolve())
    version = _digest(state.st_size, state.st_mtime_ns, VERSION)
    entry = cache_dir / "annotations" / f"{source}-{version}"
    index = _load(entry, image_dir)
    if index is not None:
        check_files(index, annotation_file)
        return index
    index = read(annotation_file, image_dir)
    try:
        _write(index, entry)
    except OSError as error:
        _tell_once(f"annotations cannot be kept in {entry.parent} ({error.strerror or error})")
        return index
    for other in entry.parent.glob(f"{source}-*"):
        if other != entry:
            shutil.rmtree(other, ignore_errors=True)
    # Mapped arrays instead of our own, which other processes could not share.
    mapped = _load(entry, image_dir)
    return index if mapped is None else mapped


def _digest(*values: object) -> str:
    return hashlib.sha256(repr([str(value) for value in values]).encode()).hexdigest()[:16]


def _load(entry: Path, image_dir: Path) -> AnnotationIndex | None:
    """Return an entry, or None if it is not there or damaged; then it is removed."""
    if not os.path.isdir(entry):  # unlike Path's, never an error
        return None
    try:
        about = json.loads((entry / "index.json").read_text(encoding="utf-8"))
        # Without the class `memmap`, whose slices are slower to make.
        arrays = {
            name: np.asarray(np.load(entry / f"{name}.npy", mmap_mode="r")) for name in ARRAYS
        }
        if about["checksums"] == {name: _checksum(array) for name, array in arrays.items()}:
            return AnnotationIndex(
                image_dir=image_dir,
                class_names=tuple(about["class_names"]),
                repairs=about["repairs"],
                places={name: tuple(found) for name, found in about["places"].items()},
                **arrays,
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.debug("%s: %r", entry, error)
    log.warning("%s is damaged; the annotation file is read again", entry)
    shutil.rmtree(entry, ignore_errors=True)
    return None


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data)


def _write(index: AnnotationIndex, entry: Path) -> None:
    """Write an entry that is there in full or not at all; another process may do the same.

    Raises:
        OSError: the folder cannot be written.
    """
    about: dict[str, Any] = {
        "class_names": index.class_names,
        "repairs": index.repairs,
        "places": index.places,
        "checksums": {name: _checksum(getattr(index, name)) for name in ARRAYS},
    }
    part = entry.with_name(f".{entry.name}-{uuid4().hex}")
    try:
        part.mkdir(parents=True)
        for name in ARRAYS:
            np.save(part / f"{name}.npy", getattr(index, name), allow_pickle=False)
        (part / "index.json").write_text(json.dumps(about), encoding="utf-8")
        part.rename(entry)
    except OSError:
        shutil.rmtree(part, ignore_errors=True)
        if not os.path.isdir(entry):
            raise


@cache
def _tell_once(message: str) -> None:
    log.warning("%s", message)

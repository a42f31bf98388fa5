"""Predict: ``uv run tools/predict.py weights=<run> source=street.jpg``."""

import csv
import json
import logging
import signal
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from compound.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from compound.cli.viewers import Viewer
    from compound.data.gallery import Film, Gallery
    from compound.data.sources import Frame, Frames

log = logging.getLogger(__name__)

# Of a command that did what it could, but not all.
EXIT_SKIPPED = 1


def predict(config: DictConfig) -> None:
    """Look at all that ``source`` means; draw it, and write what was found as JSON and CSV."""
    from compound.cli.viewers import viewer_of
    from compound.data.sources import open_source
    from compound.profiling.machine import pick_device

    if not isinstance(config.batch_size, int) or config.batch_size < 1:
        raise UserError(f"batch_size={config.batch_size}: expected a whole number of 1 or more")
    frames = open_source(config.source)
    viewer = viewer_of(config, pick_device(str(config.device)), _numbers(frames))
    folder = Path(config.paths.output_dir)
    seen, skipped, stopped = _watch(viewer, frames, folder, config)
    things = "pictures" if frames.rate is None else "frames"
    if not viewer.results and seen:
        log.warning("nothing was found in %d %s; lower score_threshold to see more", seen, things)
    for line in viewer.told():
        log.info("%s", line)
    log.info("%d %s, written to %s", seen, things, folder)
    if skipped:
        log.error("not all could be read, see above")
        sys.exit(EXIT_SKIPPED)
    if stopped and frames.count is not None:  # a camera ends by no other way
        sys.exit(128 + signal.SIGINT)


def _numbers(frames: "Frames") -> dict[str, int]:
    """Return the numbers that files are called by, if they tell all of them apart."""
    from compound.data.sources import Files

    names = {str(path): path.stem for path in frames.paths} if isinstance(frames, Files) else {}
    if not all(stem.isdecimal() for stem in names.values()):
        return {}
    numbers = {name: int(stem) for name, stem in names.items()}
    return numbers if len(set(numbers.values())) == len(numbers) else {}


def _watch(
    viewer: "Viewer", frames: "Frames", folder: Path, config: DictConfig
) -> tuple[int, int, bool]:
    """Look at the pictures; return how many were seen, how many not, and whether it was stopped."""
    from rich.progress import track

    waiting: deque[Frame] = deque()
    skipped = seen = 0
    stopped = False

    def readable() -> "Iterator[np.ndarray]":
        nonlocal skipped
        for frame in frames:
            if frame.pixels is None:
                skipped += 1
                log.warning("%s", frame.problem)
                continue
            waiting.append(frame)
            yield frame.pixels

    with ExitStack() as stack:
        file = stack.enter_context((folder / "predictions.csv").open("w", newline=""))
        table = csv.writer(file)
        table.writerow(viewer.columns)
        # Whatever ends this, a camera's user or a fault, what was found so far is kept.
        stack.callback(
            lambda: (folder / "predictions.json").write_text(json.dumps(viewer.results) + "\n")
        )
        gallery = stack.enter_context(_gallery(folder, frames, config)) if config.draw else None
        shown = track(viewer.look(readable()), "looking", total=frames.count, transient=True)
        try:
            for found in shown:
                frame = waiting.popleft()
                seen += 1
                table.writerows(viewer.rows(frame.name, found))
                if gallery is not None and frame.pixels is not None:
                    gallery.add(frame, viewer.drawn(frame.pixels, found))
        except KeyboardInterrupt:
            stopped = True
            log.warning("stopped after %d", seen)
    return seen, skipped, stopped


def _gallery(folder: Path, frames: "Frames", config: DictConfig) -> "Gallery | Film":
    """Return what writes the drawn pictures: as files, or as one video."""
    from compound.data.gallery import Film, Gallery
    from compound.data.sources import Files

    if isinstance(frames, Files):
        return Gallery(folder / "pictures", frames.paths)
    name = f"camera{config.source}" if str(config.source).isdecimal() else Path(config.source).stem
    assert frames.rate is not None
    return Film(folder / f"{name}.mp4", frames.rate)

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

import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.progress import track

from compound.cli.networks import network_of, plain
from compound.data.gallery import Film, Gallery
from compound.data.sources import Files, Frame, Frames, open_source
from compound.errors import UserError
from compound.export.runtime import is_program
from compound.profiling.machine import pick_device
from compound.task import Predictor

log = logging.getLogger(__name__)

# Of a command that did what it could, but not all.
EXIT_SKIPPED = 1


def predict(config: DictConfig) -> None:
    """Look at all that ``source`` means; draw it, and write what was found as JSON and CSV."""
    check_batch_size(config)
    frames = open_source(config.source)
    predictor = predictor_of(config, pick_device(str(config.device)), frames)
    folder = Path(config.paths.output_dir)
    seen, skipped, stopped = _watch(predictor, frames, folder, config)
    things = "pictures" if frames.rate is None else "frames"
    if not predictor.results and seen:
        log.warning("nothing was found in %d %s; lower score_threshold to see more", seen, things)
    for line in predictor.summary():
        log.info("%s", line)
    log.info("%d %s, written to %s", seen, things, folder)
    if skipped:
        log.error("not all could be read, see above")
        sys.exit(EXIT_SKIPPED)
    if stopped and frames.count is not None:  # a camera ends by no other way
        sys.exit(128 + signal.SIGINT)


def check_batch_size(config: DictConfig) -> None:
    """Refuse a batch that is no whole number of 1 or more."""
    if not isinstance(config.batch_size, int) or config.batch_size < 1:
        raise UserError(f"batch_size={config.batch_size}: expected a whole number of 1 or more")


def predictor_of(config: DictConfig, device: str, frames: Frames) -> Predictor:
    """Return the network that the configuration names, with its weights, on a device.

    An exported file runs where its runtime does, on the CPU.

    Raises:
        UserError: there are no such weights, or a setting is out of its range.
    """
    task, model = network_of(config, exported=True)
    if is_program(str(config.weights)):
        if config.optimize:
            raise UserError(f"optimize=true: {config.weights} has been made fast already")
    else:
        model = model.eval().to(device)
        if config.optimize:
            model = model.optimize(batch_size=config.batch_size)
    given = [word.partition("=")[0] for word in HydraConfig.get().overrides.task]
    return task.predictor(model, plain(config), given=given, image_ids=_image_ids(frames))


def _image_ids(frames: Frames) -> dict[str, int]:
    """Return the numbers that files are called by, if they tell all of them apart."""
    names = {str(path): path.stem for path in frames.paths} if isinstance(frames, Files) else {}
    if not all(stem.isdecimal() for stem in names.values()):
        return {}
    numbers = {name: int(stem) for name, stem in names.items()}
    return numbers if len(set(numbers.values())) == len(numbers) else {}


def _watch(
    predictor: Predictor, frames: Frames, folder: Path, config: DictConfig
) -> tuple[int, int, bool]:
    """Predict all images; return how many, how many were skipped, and whether it was stopped."""
    waiting: deque[Frame] = deque()
    skipped = seen = 0
    stopped = False

    def readable() -> Iterator[np.ndarray]:
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
        table.writerow(predictor.columns)
        # Whatever ends this, a camera's user or a fault, what was found so far is kept.
        stack.callback(
            lambda: (folder / "predictions.json").write_text(json.dumps(predictor.results) + "\n")
        )
        gallery = _gallery(folder, frames, config) if config.draw else None
        if gallery is not None:
            stack.callback(gallery.close)
        found = predictor.predict(readable())
        try:
            for prediction in track(found, "looking", total=frames.count, transient=True):
                frame = waiting.popleft()
                seen += 1
                table.writerows(predictor.rows(frame.name, prediction))
                if gallery is not None and frame.pixels is not None:
                    gallery.add(frame, predictor.draw(frame.pixels, prediction))
        except KeyboardInterrupt:
            stopped = True
            log.warning("stopped after %d", seen)
    return seen, skipped, stopped


def _gallery(folder: Path, frames: Frames, config: DictConfig) -> Gallery | Film:
    """Return what writes the drawn images: as files, or as one video."""
    if isinstance(frames, Files):
        return Gallery(folder / "pictures", frames.paths)
    name = f"camera{config.source}" if str(config.source).isdecimal() else Path(config.source).stem
    assert frames.rate is not None
    return Film(folder / f"{name}.mp4", frames.rate)

"""Parts that reports of several tasks show: confusions, calibration, the worst and best images."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from compound.data.images import UnreadableError
from compound.report.calibration import Calibration
from compound.report.charts import reliability
from compound.report.page import Chart, Gallery, Heatmap, Part, Shot, Text, share

MOST_CLASSES = 40
# Of the worst images, and of the best.
NUM_PICTURES = 12


def confusion_part(
    cells: np.ndarray, names: Sequence[str], *, note: str, always: Sequence[int] = ()
) -> Heatmap:
    """Return a matrix whose rows are what is there and whose columns are what it was taken for.

    Args:
        cells: ``(C, 3)`` row, column and count of the cells that are not empty.
        names: of the K classes.
        note: how it was counted.
        always: classes that are shown however many there are, such as background.
    """
    shown = np.arange(len(names))
    if len(names) > MOST_CLASSES:
        rows, columns, counts = cells[cells[:, 0] != cells[:, 1]].T
        errors = np.zeros(len(names), np.int64)
        np.add.at(errors, rows, counts)
        np.add.at(errors, columns, counts)
        most = np.argsort(-errors, kind="stable")
        chosen = most[~np.isin(most, always)][: MOST_CLASSES - len(always)]
        shown = np.concatenate([np.sort(chosen), np.asarray(always, np.int64)])
        note += f" Of {len(names)} classes the {len(shown)} with most confusions."
    place = np.full(len(names), -1)
    place[shown] = np.arange(len(shown))
    rows, columns, counts = cells[(place[cells[:, :2]] >= 0).all(1)].T
    matrix = np.zeros((len(shown), len(shown)), np.int64)
    matrix[place[rows], place[columns]] = counts
    labels = [names[i] for i in shown.tolist()]
    return Heatmap("Confusions", labels, labels, matrix, note)


def cells_of(matrix: np.ndarray) -> np.ndarray:
    """Return the cells ``(C, 3)`` of a matrix that are not empty: row, column, count."""
    return np.column_stack([*matrix.nonzero(), matrix[matrix.nonzero()]])


def calibration_part(calibration: Calibration, things: str) -> Chart:
    """Return how often predictions of a score are right.

    Args:
        calibration: what is drawn.
        things: what is scored, such as predictions.
    """
    note = (
        f"Of {things} with a score of 0.8 eight in ten should be right. Here scores and shares "
        f"differ by {share(calibration.error) or 'nothing'} in the mean."
    )
    return Chart("How far scores can be trusted", reliability(calibration), note)


def extremes(order: np.ndarray, shot_of: Callable[[int], Shot], **shown: Any) -> list[Part]:
    """Return galleries of the worst images and the best; those that cannot be read are left out.

    Args:
        order: positions of the images, the worst first.
        shot_of: returns the small image of a position, or raises UnreadableError.
        shown: what else the galleries have, see `Gallery`.
    """
    count = min(NUM_PICTURES, -(-len(order) // 2))
    best = order[count:][::-1][:NUM_PICTURES]
    parts: list[Part] = []
    for title, chosen in (("Worst", order[:count]), ("Best", best)):
        shots, problems = [], []
        for position in chosen.tolist():
            try:
                shots.append(shot_of(position))
            except UnreadableError as error:  # as when files have moved
                problems.append(str(error))
        if shots:
            parts.append(Gallery(title, shots, **shown))
        if problems:
            parts.append(Text(f"{len(problems)} pictures are left out: {problems[0]}", "warn"))
    return parts

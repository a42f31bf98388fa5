"""A matrix of confusions that a person can read: of many classes those that are confused most."""

from collections.abc import Sequence

import numpy as np

from compound.report.page import Heatmap

MOST_CLASSES = 40


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

"""What stands in a report on a classifier."""

from collections.abc import Sequence

import numpy as np

from backbone.classification.analysis import ClassAnalysis, analyse_classes
from backbone.classification.data.index import ImageIndex
from backbone.classification.ranking import Ranking
from compound.data.images import UnreadableError
from compound.report.charts import reliability
from compound.report.confusion import confusion_part
from compound.report.page import (
    Chart,
    Gallery,
    Numbers,
    Part,
    Section,
    Shot,
    Table,
    Text,
    share,
    shot,
)

# Of the worst pictures, and of the best.
NUM_PICTURES = 12


def classifier_sections(ranking: Ranking, index: ImageIndex, *, split: str) -> list[Section]:
    """Return scores, classes, confusions, calibration and pictures of one split.

    Args:
        ranking: what the pictures were taken for.
        index: the split.
        split: its name.
    """
    names = index.class_names
    found = analyse_classes(ranking.truth, ranking.labels, ranking.scores, names)
    return [
        Section(f"At a glance: {split}", [_numbers(found, ranking), *_remarks(found)]),
        Section("Classes", _classes(found)),
        Section("Confidence", [_calibration(found)]),
        Section("Pictures", _pictures(found, ranking, index)),
    ]


def _numbers(found: ClassAnalysis, ranking: Ranking) -> Numbers:
    mean_loss = float(ranking.losses.mean()) if len(ranking.losses) else float("nan")
    values = [
        ("top-1", share(found.top1)),
        ("top-5", share(found.top5)),
        ("mean recall of classes", share(found.mean_recall)),
        ("loss", f"{mean_loss:.3f}"),
        ("calibration error", share(found.calibration.error)),
        ("pictures", f"{len(ranking.truth):,}"),
        ("classes", f"{len(found.class_names):,}"),
    ]
    return Numbers([pair for pair in values if pair[1]])


def _remarks(found: ClassAnalysis) -> list[Part]:
    never = [row.name for row in found.classes if row.count and not row.predicted]
    taken = [row.name for row in found.classes if row.predicted]
    if len(taken) == 1 and never:
        return [Text(f"Every picture was taken for {taken[0]}: nothing has been learnt.", "bad")]
    if never:
        return [Text(f"No picture was taken for {few(never)}.", "warn")]
    return []


def _classes(found: ClassAnalysis) -> list[Part]:
    rows = [
        (r.name, str(r.count), share(r.recall), share(r.precision), share(r.f1))
        for r in found.classes
    ]
    columns = ("class", "pictures", "recall", "precision", "F1")
    note = (
        "Recall is the share of a class's pictures that were recognised, precision the share of "
        "the pictures taken for it that are of it. A column's title sorts by it."
    )
    parts: list[Part] = [Table("Each class", columns, rows, note)]
    if found.confused:
        names = found.class_names
        pairs = [
            (names[pair.truth], names[pair.predicted], str(pair.count), share(pair.share))
            for pair in found.confused
        ]
        columns = ("class", "taken for", "pictures", "share of the class")
        parts.append(Table("Most often confused", columns, pairs))
    note = (
        "Rows are what a picture is of, columns what it was taken for; colours are shares of a row."
    )
    return [*parts, confusion_part(found.cells, found.class_names, note=note)]


def _calibration(found: ClassAnalysis) -> Chart:
    note = (
        f"Of predictions with a score of 0.8 eight in ten should be right. Here scores and shares "
        f"differ by {share(found.calibration.error) or 'nothing'} in the mean."
    )
    return Chart("How far scores can be trusted", reliability(found.calibration), note)


def _pictures(found: ClassAnalysis, ranking: Ranking, index: ImageIndex) -> list[Part]:
    count = min(NUM_PICTURES, -(-len(found.order) // 2))
    worst, best = found.order[:count], found.order[count:][::-1][:NUM_PICTURES]
    parts: list[Part] = []
    for title, rows in (("Worst", worst), ("Best", best)):
        shots, problems = _shots(rows, ranking, index)
        if shots:
            parts.append(Gallery(title, shots))
        if problems:
            parts.append(Text(f"{len(problems)} pictures are left out: {problems[0]}", "warn"))
    return parts


def _shots(rows: np.ndarray, ranking: Ranking, index: ImageIndex) -> tuple[list[Shot], list[str]]:
    """Return pictures, and why some of them cannot be read, as when they have moved."""
    shots, problems = [], []
    for row in rows.tolist():
        i = int(ranking.indices[row])
        guess, truth = int(ranking.labels[row, 0]), int(ranking.truth[row])
        caption = f"{index.class_names[truth]}, {ranking.scores[row, 0]:.2f}"
        if guess != truth:
            caption = (
                f"{index.class_names[truth]}, taken for {index.class_names[guess]} "
                f"({ranking.scores[row, 0]:.2f})"
            )
        try:
            shots.append(shot(index.source(i).whole(), f"{caption}: {index.name(i)}"))
        except UnreadableError as error:
            problems.append(str(error))
    return shots, problems


def few(names: Sequence[str], most: int = 5) -> str:
    """Return the first names of a list, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more

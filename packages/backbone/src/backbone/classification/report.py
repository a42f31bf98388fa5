"""What stands in a report on a classifier."""

from functools import partial

from backbone.classification.analysis import ClassAnalysis, analyse_classes
from backbone.classification.data.index import ImageIndex
from backbone.classification.ranking import Ranking
from compound.report.page import Numbers, Part, Section, Shot, Table, Text, share, shot
from compound.report.parts import calibration_part, confusion_part, extremes

# Classes that a remark names.
_NAMED = 5


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
        Section("Confidence", [calibration_part(found.calibration, "predictions")]),
        Section("Pictures", extremes(found.order, partial(_shot, ranking, index))),
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
        more = f" and {len(never) - _NAMED} more" if len(never) > _NAMED else ""
        return [Text(f"No picture was taken for {', '.join(never[:_NAMED])}{more}.", "warn")]
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


def _shot(ranking: Ranking, index: ImageIndex, row: int) -> Shot:
    """Return the small image of a row of the ranking."""
    i = int(ranking.indices[row])
    guess, truth = int(ranking.labels[row, 0]), int(ranking.truth[row])
    caption = f"{index.class_names[truth]}, {ranking.scores[row, 0]:.2f}"
    if guess != truth:
        caption = (
            f"{index.class_names[truth]}, taken for {index.class_names[guess]} "
            f"({ranking.scores[row, 0]:.2f})"
        )
    return shot(index.source(i).whole(), f"{caption}: {index.name(i)}")

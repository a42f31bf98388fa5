"""Why detections are wrong and what each kind of error costs: TIDE, arXiv:2008.08115, Sec. 2.

A wrong detection is of the first kind that applies, as in the authors' `tidecv`:

- localisation: it overlaps an object of its class, but less than a match needs;
- classification: it overlaps an object of another class enough for a match;
- duplicate: the object it overlaps enough belongs to a detection with a better score;
- background: it overlaps nothing;
- both: neither place nor class are right.

An object that no detection has is missed, unless mending a localisation or a class would find it.
The costs are not parts of one whole: mending one kind makes others cheaper or dearer.

Here as in `tidecv` an object can be mended by one detection only, the best of all that need
either their class or their place mended. It differs in this: AP is COCO's, so that a class that
is found but has no objects, or none left after mending, does not count (there it counts as 0), and
of a picture COCO's number of each class counts, not of all classes together; overlap with a crowd
region that just reaches the threshold is enough; and a box that just reaches it is no error of
localisation.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from efficientdet.evaluation.coco_ap import mean_of
from efficientdet.evaluation.curves import average_precision
from efficientdet.evaluation.pairs import Matches, Pairs

ErrorKind = Literal["classification", "localisation", "both", "duplicate", "background", "missed"]
KINDS: tuple[ErrorKind, ...] = get_args(ErrorKind)
CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND, MISSED = range(len(KINDS))

# The paper's t_f and t_b.
FOREGROUND = 0.5
BACK = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Breakdown:
    """The errors of a detector.

    Attributes:
        ap50: what COCO calls AP50; nan if no class has objects.
        counts: how many errors of each kind there are, in order of `KINDS`.
        costs: AP50 that is gained when an oracle mends that kind alone; nan if ap50 is.
        false_positives: wrong detections of all kinds.
        false_negatives: objects without a detection, whether missed or not.
        false_positives_cost: AP50 that is gained when all wrong detections are left out.
        false_negatives_cost: the same when objects without a detection do not count.
        kinds: ``(D,)`` int8, position in `KINDS` of each detection's error; -1 is no error.
        missed: ``(G,)`` bool.
    """

    ap50: float
    counts: dict[ErrorKind, int]
    costs: dict[ErrorKind, float]
    false_positives: int
    false_negatives: int
    false_positives_cost: float
    false_negatives_cost: float
    kinds: np.ndarray
    missed: np.ndarray


def break_down(pairs: Pairs, matches: Matches) -> Breakdown:
    """Return the errors; ``matches`` are those at an IoU of 0.5.

    An oracle corrects a class or a box if the object is free, else it leaves the detection out,
    as it does with duplicates and background. Missed objects it does not count, as if they were
    found as precisely as the others (those of other classes, if none of a class is found). If no
    object at all is found, they cost all that AP lacks.
    """
    counted, objects = ~matches.ignored, ~pairs.truth.crowd
    free = objects & (matches.detections < 0)
    kinds, targets = _kinds(pairs, matches)
    menders = _menders(targets, free)
    missed = free.copy()
    missed[targets[menders]] = False
    corrected = pairs.found.labels.copy()
    corrected[menders] = pairs.truth.labels[targets[menders]]

    def ap50(kind: int, kept: np.ndarray, left: np.ndarray) -> float:
        """Return AP50 with a kind mended, of detections that are kept and objects that are left."""
        mended = menders & (kinds == kind)
        labels = np.where(mended, corrected, pairs.found.labels)
        return _ap50(pairs, labels, matches.right | mended, kept | mended, left)

    before = ap50(-1, counted, objects)
    after = [ap50(kind, counted & (kinds != kind), objects) for kind in range(MISSED)]
    after.append(ap50(MISSED, counted, objects & ~missed))
    counts = [*np.bincount(kinds[matches.wrong], minlength=MISSED).tolist(), int(missed.sum())]
    return Breakdown(
        ap50=before,
        counts=dict(zip(KINDS, counts, strict=True)),
        costs={kind: _gain(before, ap) for kind, ap in zip(KINDS, after, strict=True)},
        false_positives=int(matches.wrong.sum()),
        false_negatives=int(free.sum()),
        false_positives_cost=_gain(before, ap50(-1, matches.right, objects)),
        false_negatives_cost=_gain(before, ap50(-1, counted, objects & ~free)),
        kinds=kinds,
        missed=missed,
    )


def _ap50(
    pairs: Pairs, labels: np.ndarray, right: np.ndarray, kept: np.ndarray, objects: np.ndarray
) -> float:
    """Return mean AP of kept detections and objects: ``(D,)`` all but the last, ``(G,)``."""
    order = np.argsort(-pairs.found.scores, kind="stable")
    order = order[kept[order]]
    counts = np.bincount(pairs.truth.labels[objects], minlength=len(pairs.class_names))
    ap = average_precision(labels[order], right[order], counts)
    return mean_of(np.where(counts, ap, -1))


def _gain(before: float, after: float) -> float:
    """Return what mending gains; where it leaves no object, it mends all."""
    return (1.0 if np.isnan(after) else after) - before


def _kinds(pairs: Pairs, matches: Matches) -> tuple[np.ndarray, np.ndarray]:
    """Return the kind of each detection's error, -1 for none, and the object it should have had.

    The object ``(D,)`` is that whose class or place was not met; -1 for other kinds.
    """
    same, crowd = pairs.same_class, pairs.with_crowd
    own, own_overlap = _closest(pairs, same & ~crowd)
    other, other_overlap = _closest(pairs, ~same & ~crowd)
    kinds = np.select(
        [
            ~matches.wrong,
            (own_overlap >= BACK) & (own_overlap < FOREGROUND),
            other_overlap >= FOREGROUND,
            own_overlap >= FOREGROUND,
            np.maximum(own_overlap, other_overlap) <= BACK,
        ],
        [-1, LOCALISATION, CLASSIFICATION, DUPLICATE, BACKGROUND],
        BOTH,
    )
    targets = np.select([kinds == LOCALISATION, kinds == CLASSIFICATION], [own, other], -1)
    return kinds.astype(np.int8), targets


def _closest(pairs: Pairs, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the object of an allowed pair that each detection overlaps most, and how much.

    Both are ``(D,)``; -1 and 0 where it overlaps none.
    """
    rows = np.flatnonzero(allowed)
    rows = rows[np.lexsort((pairs.overlaps[rows], pairs.detections[rows]))]
    best = rows[np.diff(pairs.detections[rows], append=-1) != 0]
    objects = np.full(len(pairs.found.scores), -1)
    overlaps = np.zeros(len(objects))
    objects[pairs.detections[best]] = pairs.objects[best]
    overlaps[pairs.detections[best]] = pairs.overlaps[best]
    return objects, overlaps


def _menders(targets: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Return which detections would find a free object ``(D,)``: of each object's, the best."""
    aimed = np.flatnonzero(targets >= 0)
    aimed = aimed[free[targets[aimed]]]
    menders = np.zeros(len(targets), bool)
    # Within a picture the best score is first.
    menders[aimed[np.unique(targets[aimed], return_index=True)[1]]] = True
    return menders

"""How far an exported classifier's probabilities are from those of its network."""

from collections.abc import Sequence
from typing import NamedTuple

from backbone.classification.predictor import Guesses


class Difference(NamedTuple):
    """Over some pictures.

    Attributes:
        probability: the largest difference of any class's.
        top1: share of the pictures whose likeliest class is another.
    """

    probability: float
    top1: float


def compare(wanted: Sequence[Guesses], found: Sequence[Guesses]) -> Difference:
    """Compare what two networks made of the same pictures, all classes told."""
    probability, changed = 0.0, 0
    for one, other in zip(wanted, found, strict=True):
        apart = one.scores[one.labels.argsort()] - other.scores[other.labels.argsort()]
        probability = max(probability, float(apart.abs().max()))
        changed += int(one.labels[0] != other.labels[0])
    return Difference(probability, changed / max(len(wanted), 1))
